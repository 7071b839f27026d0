package session

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	api "github.com/raftlock/raftlock/api/raftlock/v1"
	"github.com/raftlock/raftlock/fsm"
	"github.com/raftlock/raftlock/fsm/command"
	"github.com/raftlock/raftlock/link"
	"github.com/raftlock/raftlock/link/linkpb"
	"github.com/raftlock/raftlock/telemetry/tracing"
)

const (
	sampled   = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	unsampled = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"
	holders   = "00-11111111111111111111111111111111-2222222222222222-01"
)

// tracedSide is a Host whose spans are recorded: all of them have ended, once,
// when the script and the Host have.
func tracedSide(t *testing.T, script func(*testing.T, *side, *tracetest.SpanRecorder)) {
	t.Helper()
	r := tracetest.NewSpanRecorder()
	holdersSide(t, func(t *testing.T, s *side) {
		s.h.cfg.Tracer = sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(r)).Tracer(tracing.Scope)
		script(t, s, r)
	})
	ended := map[trace.SpanID]int{}
	for _, span := range r.Ended() {
		ended[span.SpanContext().SpanID()]++
	}
	for _, span := range r.Started() {
		if n := ended[span.SpanContext().SpanID()]; n != 1 {
			t.Errorf("%s ended %d times", span.Name(), n)
		}
	}
}

// tree is what was recorded and has ended, in the order of its ends, each span
// below its parent: "serve(forward wait)".
func tree(r *tracetest.SpanRecorder) string {
	below := map[trace.SpanID][]sdktrace.ReadOnlySpan{}
	known := map[trace.SpanID]bool{}
	for _, s := range r.Ended() {
		known[s.SpanContext().SpanID()] = true
	}
	for _, s := range r.Ended() {
		parent := s.Parent().SpanID()
		if !known[parent] {
			parent = trace.SpanID{}
		}
		below[parent] = append(below[parent], s)
	}
	var of func(trace.SpanID) string
	of = func(id trace.SpanID) string {
		var out []string
		for _, s := range below[id] {
			text := s.Name()
			if inner := of(s.SpanContext().SpanID()); inner != "" {
				text += "(" + inner + ")"
			}
			out = append(out, text)
		}
		return strings.Join(out, " ")
	}
	return of(trace.SpanID{})
}

func span(t *testing.T, r *tracetest.SpanRecorder, name string) sdktrace.ReadOnlySpan {
	t.Helper()
	i := slices.IndexFunc(r.Ended(), func(s sdktrace.ReadOnlySpan) bool { return s.Name() == name })
	if i < 0 {
		t.Fatalf("no %s among %s", name, tree(r))
	}
	return r.Ended()[i]
}

// outcome is how a span says that it ended, and why.
func outcome(s sdktrace.ReadOnlySpan) string {
	var out, why string
	for _, a := range s.Attributes() {
		switch a.Key {
		case tracing.Outcome:
			out = a.Value.AsString()
		case tracing.Reason:
			why = a.Value.AsString()
		}
	}
	return strings.TrimSpace(out + " " + why)
}

func (a *app) acquireIn(parent string, seq uint64, lock string) {
	a.say(&api.SessionRequest{
		Trace:   &api.Trace{Traceparent: parent},
		Request: &api.SessionRequest_Acquire{Acquire: &api.Acquire{Seq: seq, Lock: lock}},
	})
}

func waiting(seq uint64, lock string) *command.Result {
	return &command.Result{Standings: []*command.Standing{{
		Seq: seq, State: command.Standing_STATE_WAITING, Lock: lock, Position: 1,
	}}}
}

// appliedBehind answers that an acquire waits, and behind whom.
func (s *side) appliedBehind(p *linkpb.Propose, r *command.Result) {
	r.Code = command.Code_CODE_OK
	s.down(&link.Down{Frame: &linkpb.Down_Proposed{Proposed: &linkpb.Proposed{
		Id: p.Id, Outcome: linkpb.Proposed_OUTCOME_APPLIED, Result: r, Holder: &linkpb.Trace{Traceparent: holders},
	}}})
}

func (s *side) grants(a *app, seq uint64, lock string, token uint64) {
	s.notice(a, &linkpb.Notice{Notice: &linkpb.Notice_Standing{Standing: heldStanding(seq, lock, token)}})
}

func TestContendedAcquireIsOneTree(t *testing.T) {
	tracedSide(t, func(t *testing.T, s *side, r *tracetest.SpanRecorder) {
		a := s.opened(9 * time.Second)
		a.acquireIn(sampled, 2, "l")
		p := s.proposal()
		s.appliedBehind(p, waiting(2, "l"))
		time.Sleep(time.Second) // of the bubble, in which spans are stamped
		s.grants(a, 2, "l", 7)

		if got := tree(r); got != "serve(forward wait)" {
			t.Fatalf("tree %s", got)
		}
		serve, forward, wait := span(t, r, "serve"), span(t, r, "forward"), span(t, r, "wait")
		if got, _ := tracing.Format(serve.Parent()); got != sampled {
			t.Errorf("serve is below %s", got)
		}
		if got, _ := tracing.Format(forward.SpanContext()); got != p.Trace.GetTraceparent() {
			t.Errorf("the leader was told of %s, forward is %s", p.Trace.GetTraceparent(), got)
		}
		if d := wait.EndTime().Sub(wait.StartTime()); d != time.Second {
			t.Errorf("it waited %v", d)
		}
		if len(wait.Links()) != 1 {
			t.Fatalf("links %v", wait.Links())
		}
		if got, _ := tracing.Format(wait.Links()[0].SpanContext); got != holders {
			t.Errorf("the wait links to %s", got)
		}
		if len(wait.Events()) != 1 || wait.Events()[0].Name != "granted" {
			t.Errorf("events %v", wait.Events())
		}
		for name, want := range map[string]string{"serve": "held", "forward": "waiting", "wait": "held"} {
			if got := outcome(span(t, r, name)); got != want {
				t.Errorf("%s ends %s, want %s", name, got, want)
			}
		}
	})
}

func TestNothingIsMadeOfWhatNobodyRecords(t *testing.T) {
	cases := []struct {
		name, parent string
		tracer       bool
		told         string // what the leader is told
	}{
		{"not sampled by who asks", unsampled, true, ""},
		{"no tracer, and none who asks", "", false, ""},
		{"no tracer, and not sampled", unsampled, false, ""},
		{"no tracer, and what is no context", "x", false, ""},
		{"no tracer hands on what it was given", sampled, false, sampled},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			tracedSide(t, func(t *testing.T, s *side, r *tracetest.SpanRecorder) {
				if !c.tracer {
					s.h.cfg.Tracer = nil
				}
				a := s.opened(9 * time.Second)
				a.acquireIn(c.parent, 2, "l")
				p := s.proposal()
				if got := p.Trace.GetTraceparent(); got != c.told {
					t.Errorf("the leader was told %q", got)
				}
				s.applied(p, held(2, "l", 7))
				if len(r.Started()) != 0 {
					t.Errorf("made %s", tree(r))
				}
			})
		})
	}
}

func TestAnAgentThatTracesAlone(t *testing.T) {
	tracedSide(t, func(t *testing.T, s *side, r *tracetest.SpanRecorder) {
		a := s.opened(9 * time.Second)
		s.holds(a, 2, "l", 7)
		if got := tree(r); got != "serve(forward)" || span(t, r, "serve").Parent().IsValid() {
			t.Errorf("tree %s below %v", got, span(t, r, "serve").Parent())
		}
	})
}

// However a request ends, all of its spans do, once, and say so.
func TestSpansEndWithTheirRequest(t *testing.T) {
	refusal := func(code command.Code) *command.Result { return &command.Result{Code: code} }
	wait := func(s *side, a *app) { s.applied(s.proposal(), waiting(2, "l")) }
	cases := []struct {
		name string
		then func(s *side, a *app)
		tree string
		ends string // how serve does
	}{
		{"held at once", func(s *side, _ *app) { s.applied(s.proposal(), held(2, "l", 7)) }, "serve(forward)", "held"},
		{"held by another", func(s *side, _ *app) { s.appliedRefused(s.proposal(), command.Code_CODE_HELD) },
			"serve(forward)", "refused HELD"},
		{"the leader's queue is full", func(s *side, _ *app) {
			s.down(&link.Down{Frame: &linkpb.Down_Proposed{Proposed: &linkpb.Proposed{
				Id: s.proposal().Id, Outcome: linkpb.Proposed_OUTCOME_QUEUE_FULL,
			}}})
		}, "serve(forward)", "refused QUEUE_FULL"},
		{"cancelled while it is asked", func(s *side, a *app) { a.cancel(2) }, "serve(forward)", "cancelled CANCELLED"},
		{"cancelled while it waits", func(s *side, a *app) { wait(s, a); a.cancel(2) },
			"serve(forward wait)", "cancelled CANCELLED"},
		{"not on the application's list any more", func(s *side, a *app) {
			wait(s, a)
			a.list(9)
		}, "serve(forward wait)", "cancelled CANCELLED"},
		{"its session ends", func(s *side, a *app) {
			wait(s, a)
			s.notice(a, &linkpb.Notice{Notice: &linkpb.Notice_Ended{Ended: command.EndReason_END_REASON_EXPIRED}})
		}, "serve(forward wait)", "gone EXPIRED"},
		{"its session does not exist", func(s *side, _ *app) { s.applied(s.proposal(), refusal(command.Code_CODE_NO_SESSION)) },
			"serve(forward)", "gone SESSION_ENDED"},
		{"the agent stops", func(s *side, a *app) { wait(s, a); s.h.Close() }, "serve(forward wait)", "unknown"},
		{"the link breaks, and the state answers", func(s *side, a *app) {
			s.proposal()
			s.h.LinkDown()
			s.relink()
			s.applied(s.reconcile(), held(2, "l", 7))
		}, "serve(forward)", "held"},
		{"the link breaks, and it was never seen", func(s *side, a *app) {
			s.proposal()
			s.h.LinkDown()
			s.relink()
			s.applied(s.reconcile(), &command.Result{Standings: []*command.Standing{{Seq: 2, State: command.Standing_STATE_UNSEEN}}})
			s.applied(s.proposal(), held(2, "l", 7))
		}, "serve(forward)", "held"},
		{"the link breaks while it waits, and the grant is found", func(s *side, a *app) {
			wait(s, a)
			s.h.LinkDown()
			s.relink()
			s.applied(s.reconcile(), held(2, "l", 7))
		}, "serve(forward wait)", "held"},
		{"asked again over another stream", func(s *side, a *app) {
			wait(s, a)
			a.acquireIn(sampled, 2, "l")
			s.grants(a, 2, "l", 7)
		}, "serve(forward forward wait)", "held"},
		{"granted with little left, reported after a renewal", func(s *side, a *app) {
			wait(s, a)
			s.pass(8 * time.Second)
			a.beat()
			s.grants(a, 2, "l", 7)
			s.confirmed(s.beat())
		}, "serve(forward wait)", "held"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			tracedSide(t, func(t *testing.T, s *side, r *tracetest.SpanRecorder) {
				a := s.opened(9 * time.Second)
				s.confirmed(s.beat())
				a.acquireIn(sampled, 2, "l")
				c.then(s, a)
				if got := tree(r); got != c.tree {
					t.Fatalf("tree %s", got)
				}
				serve := span(t, r, "serve")
				if got := outcome(serve); got != c.ends {
					t.Errorf("ends %s, want %s", got, c.ends)
				}
				failed := !strings.HasPrefix(c.ends, "held") && !strings.HasPrefix(c.ends, "cancelled")
				if got := serve.Status().Code == codes.Error; got != failed {
					t.Errorf("status %v", serve.Status())
				}
			})
		})
	}
}

// A release has a tree of its own, below the span that it is asked in.
func TestReleaseIsTraced(t *testing.T) {
	tracedSide(t, func(t *testing.T, s *side, r *tracetest.SpanRecorder) {
		s.h.cfg.Tracer = nil
		a := s.opened(9 * time.Second)
		s.holds(a, 2, "l", 7)
		s.h.cfg.Tracer = sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(r)).Tracer(tracing.Scope)
		a.say(&api.SessionRequest{
			Trace:   &api.Trace{Traceparent: sampled},
			Request: &api.SessionRequest_Release{Release: &api.Release{Seq: 3, Hold: 2, Token: 7}},
		})
		s.applied(s.proposal(), &command.Result{})
		serve := span(t, r, "serve")
		if got := tree(r) + ": " + outcome(serve); got != "serve(forward): released" {
			t.Error(got)
		}
		if got := fmt.Sprint(serve.Attributes()); !strings.Contains(got, "release") {
			t.Error(got)
		}
	})
}

// A plain request's spans are below its caller's; each time that its wait asks
// again is part of the wait.
func TestPlainAcquireIsOneTree(t *testing.T) {
	cases := []struct {
		name string
		then func(s *side, hangUp func())
		tree string
		ends string // how the wait does
	}{
		{"granted", func(s *side, _ func()) {
			id := fsm.PlainID("o", "l")
			s.down(&link.Down{Frame: &linkpb.Down_Notice{Notice: &linkpb.Notice{
				Session: id[:], Notice: &linkpb.Notice_Stirred{Stirred: true},
			}}})
			s.applied(s.proposal(), held(0, "l", 7))
		}, "caller(forward wait(forward))", "held"},
		{"its caller hangs up", func(s *side, hangUp func()) {
			hangUp()
			s.applied(s.proposal(), &command.Result{}) // the cancel
		}, "caller(forward wait)", "cancelled"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			tracedSide(t, func(t *testing.T, s *side, r *tracetest.SpanRecorder) {
				ctx, caller := s.h.cfg.Tracer.Start(t.Context(), "caller")
				ctx, hangUp := context.WithCancel(ctx)
				defer hangUp()
				done := make(chan struct{})
				go func() {
					defer close(done)
					_, _ = s.h.PlainAcquire(ctx, &command.PlainAcquire{
						Owner: "o", Lock: "l", RequestId: "r", Identity: "uid:1", TtlNanos: uint64(9 * time.Second),
					})
				}()
				s.appliedBehind(s.proposal(), waiting(0, "l"))
				c.then(s, hangUp)
				<-done
				caller.End()
				if got := tree(r); got != c.tree {
					t.Fatalf("tree %s", got)
				}
				wait := span(t, r, "wait")
				if got := outcome(wait); got != c.ends || len(wait.Links()) != 1 {
					t.Errorf("the wait ends %s, with %d links", got, len(wait.Links()))
				}
			})
		})
	}
}

// Most requests are of no trace: they cost nothing but the look.
func TestWhatNobodyRecordsIsFree(t *testing.T) {
	h := New(Config{Log: slog.New(slog.DiscardHandler)})
	s := newSession(ID{1}, nil)
	e := &entry{seq: 1, acquire: true, lock: "l"}
	up := &uplink{}
	answer := &linkpb.Proposed{}
	if n := testing.AllocsPerRun(100, func() {
		e.spans = h.arrived(s, e, nil)
		e.spans.sends(up)
		e.spans.met(answer)
		e.spans.waits("l", 1)
		e.spans.granted(1)
		e.ends(api.Reason_REASON_OK)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// Beats, opens and what keeps a session alive are no requests.
func TestUpkeepIsNotTraced(t *testing.T) {
	tracedSide(t, func(t *testing.T, s *side, r *tracetest.SpanRecorder) {
		a := s.opened(9 * time.Second)
		for range 3 {
			a.beat()
			s.confirmed(s.beat())
		}
		if len(r.Started()) != 0 {
			t.Errorf("made %s", tree(r))
		}
	})
}

func (s *side) appliedRefused(p *linkpb.Propose, code command.Code) {
	s.down(&link.Down{Frame: &linkpb.Down_Proposed{Proposed: &linkpb.Proposed{
		Id: p.Id, Outcome: linkpb.Proposed_OUTCOME_APPLIED, Result: &command.Result{Code: code},
		Holder: &linkpb.Trace{Traceparent: holders},
	}}})
}

// reconcile is the one that a new link begins with.
func (s *side) reconcile() *linkpb.Propose {
	s.t.Helper()
	for _, p := range s.proposals() {
		if p.Command.GetReconcile() != nil {
			return p
		}
	}
	s.t.Fatal("no reconcile")
	return nil
}

func (a *app) cancel(target uint64) {
	a.say(&api.SessionRequest{Request: &api.SessionRequest_Cancel{Cancel: &api.Cancel{Target: target}}})
}
