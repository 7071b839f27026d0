package consensus

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/raftlock/raftlock/fsm/command"
)

// tracedPropose proposes under a span, which it ends with the answer.
func tracedPropose(t *testing.T, l *Leadership, spans trace.Tracer, name string) answer {
	t.Helper()
	_, span := spans.Start(t.Context(), name)
	ch := make(chan answer, 1)
	p := Proposal{Command: acquire(name), Span: span, Done: func(r *command.Result, err error) { span.End(); ch <- answer{r, err} }}
	if err := l.Propose(p); err != nil {
		t.Fatal(err)
	}
	return <-ch
}

func recorded() (*tracetest.SpanRecorder, trace.Tracer) {
	r := tracetest.NewSpanRecorder()
	return r, sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(r)).Tracer("test")
}

// The disk takes 3 ms and the network 1 ms each way: each step has
// its own share of a commit, they follow on each other, and nothing else does.
func TestStepsOfACommit(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newCluster(t, 3, 0, nil)
		defer c.close()
		m, l := c.leader()
		m.disk.set(func() { m.disk.delay = 3 * time.Millisecond })
		r, spans := recorded()
		if a := tracedPropose(t, l, spans, "traced"); a.err != nil {
			t.Fatal(a.err)
		}
		if a := propose(t, l, acquire("not")); a.err != nil {
			t.Fatal(a.err)
		}
		ended := r.Ended()
		if len(ended) != 5 || ended[4].Name() != "traced" {
			t.Fatalf("ended %v", names(ended))
		}
		commit := ended[4]
		at := commit.StartTime()
		for i, name := range []string{"queue", "append", "replicate", "apply"} {
			s := ended[i]
			if s.Name() != name || s.Parent().SpanID() != commit.SpanContext().SpanID() {
				t.Errorf("step %d is %s of %v", i, s.Name(), s.Parent().SpanID())
			}
			if s.StartTime().Before(at) || s.EndTime().Before(s.StartTime()) || s.EndTime().After(commit.EndTime()) {
				t.Errorf("%s is from %v to %v, after %v", name, s.StartTime(), s.EndTime(), at)
			}
			at = s.EndTime()
			took := s.EndTime().Sub(s.StartTime())
			if name == "append" && took != 3*time.Millisecond || name == "replicate" && took < 2*time.Millisecond {
				t.Errorf("%s took %v", name, took)
			}
		}
	})
}

func TestStepsOfAFailedCommit(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newCluster(t, 3, 0, nil)
		m, l := c.leader()
		hold := make(chan struct{})
		m.disk.set(func() { m.disk.hold = hold })
		r, spans := recorded()
		if a := tracedPropose(t, l, spans, "stuck"); !errors.Is(a.err, ErrUnknown) {
			t.Errorf("answered %v", a.err)
		}
		if got := names(r.Ended()); fmt.Sprint(got) != "[queue stuck]" {
			t.Errorf("ended %v", got)
		}
		<-m.fatal
		close(hold)
		c.close()
	})
}

func TestStepOfACutOffLeader(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newCluster(t, 3, 0, nil)
		defer c.close()
		m, l := c.leader()
		c.net.cut(m.addr, c.addrs(m)...)
		r, spans := recorded()
		if a := tracedPropose(t, l, spans, "lost"); !errors.Is(a.err, ErrUnknown) {
			t.Errorf("answered %v", a.err)
		}
		ended := r.Ended()
		if got := names(ended); fmt.Sprint(got) != "[queue append replicate lost]" {
			t.Fatalf("ended %v", got)
		}
		if s := ended[2].Status(); s.Code != codes.Error {
			t.Errorf("replicate ends with %v", s)
		}
		if len(r.Started()) != len(ended) {
			t.Errorf("started %d, ended %d", len(r.Started()), len(ended))
		}
	})
}

func names(spans []sdktrace.ReadOnlySpan) (out []string) {
	for s := range slices.Values(spans) {
		out = append(out, s.Name())
	}
	return out
}
