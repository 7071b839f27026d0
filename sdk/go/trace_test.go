package raftlock

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// recorder is an application's tracing: a provider, and what it recorded.
func recorder(opts ...sdktrace.TracerProviderOption) (*sdktrace.TracerProvider, *tracetest.SpanRecorder) {
	r := tracetest.NewSpanRecorder()
	return sdktrace.NewTracerProvider(append(opts, sdktrace.WithSpanProcessor(r))...), r
}

// traced runs a story in an application that traces.
func traced(t *testing.T, p trace.TracerProvider, story func(t *testing.T, f *fake, s *Session)) {
	t.Helper()
	bubble(t, func(t *testing.T, f *fake, s *Session) {
		cfg, err := s.cfg.with([]Option{WithTracerProvider(p)})
		if err != nil {
			t.Fatal(err)
		}
		s.tracer = cfg.tracer()
		story(t, f, s)
	})
}

// sentTraces are the traceparents of the requests of a kind that reached f.
func (f *fake) sentTraces(kind string) (out []string) {
	f.with(func() {
		for _, m := range f.log {
			if _, k := sequence(m); k == kind {
				out = append(out, m.GetTrace().GetTraceparent())
			}
		}
	})
	return out
}

func parentOf(s trace.SpanContext) string {
	return fmt.Sprintf("00-%v-%v-%v", s.TraceID(), s.SpanID(), s.TraceFlags())
}

// A request carries the span of its call.
func TestTraceGoesToTheAgent(t *testing.T) {
	p, r := recorder()
	traced(t, p, func(t *testing.T, f *fake, s *Session) {
		ctx, root := p.Tracer("app").Start(t.Context(), "order")
		f.strangerTakes("l")
		got := make(chan *Lock)
		go func() {
			l, _ := s.Lock(ctx, "l")
			got <- l
		}()
		time.Sleep(time.Second)
		f.strangerLeaves("l")
		l := <-got
		if err := l.Unlock(ctx); err != nil {
			t.Fatal(err)
		}
		root.End()
		acquire, release := r.Ended()[0], r.Ended()[1]
		for i, want := range []struct{ name, kind string }{{"raftlock.acquire", "acquire"}, {"raftlock.release", "release"}} {
			span := r.Ended()[i]
			if span.Name() != want.name || span.SpanKind() != trace.SpanKindClient || span.Parent().SpanID() != root.SpanContext().SpanID() {
				t.Errorf("span %s of kind %v below %v", span.Name(), span.SpanKind(), span.Parent().SpanID())
			}
			if sent := f.sentTraces(want.kind); !slices.Equal(sent, []string{parentOf(span.SpanContext())}) {
				t.Errorf("%s was sent within %v", want.kind, sent)
			}
		}
		if took := acquire.EndTime().Sub(acquire.StartTime()); took < time.Second || acquire.Status().Code != codes.Unset {
			t.Errorf("the acquire took %v, status %v", took, acquire.Status())
		}
		if release.Status().Code != codes.Unset || len(r.Started()) != len(r.Ended()) {
			t.Errorf("status %v, %d of %d spans ended", release.Status(), len(r.Ended()), len(r.Started()))
		}
	})
}

// Sent again over another stream, a request is of the same span: there is one
// call, and the agent may not know of the first sending.
func TestTraceIsRepeated(t *testing.T) {
	p, r := recorder()
	traced(t, p, func(t *testing.T, f *fake, s *Session) {
		f.with(func() { f.deaf = true })
		got := make(chan *Lock)
		go func() {
			l, _ := s.Lock(t.Context(), "l")
			got <- l
		}()
		time.Sleep(time.Millisecond)
		f.with(func() { f.deaf = false })
		f.breakStream()
		l := <-got
		want := parentOf(r.Ended()[0].SpanContext())
		if sent := f.sentTraces("acquire"); !slices.Equal(sent, []string{want, want}) {
			t.Errorf("sent within %v, want twice %v", sent, want)
		}
		if err := l.Unlock(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}

// What the application decided counts: a trace that is not sampled goes to the
// agent as such, and outside of any trace nothing does.
func TestTraceThatNobodyRecords(t *testing.T) {
	never, r := recorder(sdktrace.WithSampler(sdktrace.NeverSample()))
	cases := []struct {
		name string
		p    trace.TracerProvider
		sent func(string) bool
	}{
		{"not sampled", never, func(s string) bool { return len(s) == 55 && s[53:] == "00" }},
		{"no tracing", otel.GetTracerProvider(), func(s string) bool { return s == "" }},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			traced(t, c.p, func(t *testing.T, f *fake, s *Session) {
				l := mustLock(t, s, "l")
				if err := l.Unlock(t.Context()); err != nil {
					t.Fatal(err)
				}
				for _, sent := range append(f.sentTraces("acquire"), f.sentTraces("release")...) {
					if !c.sent(sent) {
						t.Errorf("sent %q", sent)
					}
				}
			})
		})
	}
	if len(r.Ended()) != 0 {
		t.Errorf("%d spans", len(r.Ended()))
	}
}

func TestTraceTellsWhyNot(t *testing.T) {
	p, r := recorder()
	traced(t, p, func(t *testing.T, f *fake, s *Session) {
		f.strangerTakes("l")
		if _, err := s.TryLock(t.Context(), "l"); !errors.Is(err, ErrHeld) {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := s.Lock(ctx, "l"); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		for i, want := range []string{"refused HELD", "cancelled"} {
			span := r.Ended()[i]
			said := map[string]string{}
			for _, a := range span.Attributes() {
				said[string(a.Key)] = a.Value.String()
			}
			got := said["raftlock.outcome"]
			if i == 0 {
				got += " " + said["raftlock.reason"]
			}
			if got != want || span.Status().Code != codes.Error || said["raftlock.lock"] != "l" {
				t.Errorf("span %d says %v, status %v", i, said, span.Status())
			}
		}
	})
}

func TestTraceOfUnaryCalls(t *testing.T) {
	p, _ := recorder()
	ctx, root := p.Tracer("app").Start(t.Context(), "order")
	defer root.End()
	for _, c := range []struct {
		name string
		ctx  context.Context
		want []string
	}{{"in a trace", ctx, []string{parentOf(root.SpanContext())}}, {"outside of any", t.Context(), nil}} {
		t.Run(c.name, func(t *testing.T) {
			var got []string
			call := func(ctx context.Context, _ string, _, _ any, _ *grpc.ClientConn, _ ...grpc.CallOption) error {
				md, _ := metadata.FromOutgoingContext(ctx)
				got = md.Get("traceparent")
				return nil
			}
			if err := propagate(c.ctx, "/m", nil, nil, nil, call); err != nil || !slices.Equal(got, c.want) {
				t.Errorf("sent %v (%v), want %v", got, err, c.want)
			}
		})
	}
}
