package session

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/otel/trace"

	api "github.com/raftlock/raftlock/api/raftlock/v1"
	"github.com/raftlock/raftlock/fsm/command"
	"github.com/raftlock/raftlock/link/linkpb"
)

// tally is Metrics that remembers.
type tally struct {
	mu sync.Mutex // guards said
	// said is what was measured since it was asked last, in order.
	said []string
	// requests are the answers to requests.
	requests []string
}

func (m *tally) add(format string, args ...any) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.said = append(m.said, fmt.Sprintf(format, args...))
}

func (m *tally) take() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := strings.Join(m.said, ", ")
	m.said = nil
	return out
}

func (m *tally) Acquired(outcome string)                      { m.add("acquired %s", outcome) }
func (m *tally) AcquireAnswered(o string, took time.Duration) { m.add("%s in %v", o, took) }
func (m *tally) Waited(outcome string, took time.Duration)    { m.add("waited %v: %s", took, outcome) }
func (m *tally) Released(how string)                          { m.add("released %s", how) }
func (m *tally) HeldFor(_ string, took time.Duration)         { m.add("after %v", took) }
func (m *tally) BeatAnswered(took time.Duration)              { m.add("beat in %v", took) }
func (m *tally) Answered(request, why string, _ time.Duration) {
	m.requests = append(m.requests, request+" "+why)
}
func (m *tally) Renewed(sessions int) {
	if sessions > 0 {
		m.add("renewed %d", sessions)
	}
}

func (a *app) release(seq, hold, token uint64) {
	a.say(&api.SessionRequest{Request: &api.SessionRequest_Release{Release: &api.Release{Seq: seq, Hold: hold, Token: token}}})
}

func goneStanding(seq uint64, why command.Gone) *command.Standing {
	return &command.Standing{Seq: seq, State: command.Standing_STATE_GONE, Gone: why}
}

func waitsStanding(seq uint64) *command.Result {
	return &command.Result{Standings: []*command.Standing{{Seq: seq, State: command.Standing_STATE_WAITING, Lock: "x", Position: 1}}}
}

// What is measured in each story, from an acquire of x by sequence 2 on.
func TestMeasured(t *testing.T) {
	const ttl = 10 * time.Second
	for _, c := range []struct {
		name   string
		script func(*side, *app)
		want   string
	}{
		{"granted and released", func(s *side, a *app) {
			s.pass(time.Millisecond)
			s.applied(s.proposal(), held(2, "x", 5))
			s.pass(time.Second)
			a.release(3, 2, 5)
			s.applied(s.proposal(), &command.Result{})
		}, "acquired granted, granted in 1ms, released released, after 1s"},
		{"refused by who holds", func(s *side, a *app) {
			s.applied(s.proposal(), &command.Result{Code: command.Code_CODE_HELD, Standings: []*command.Standing{goneStanding(2, command.Gone_GONE_REFUSED)}})
		}, "acquired held, held in 0s"},
		{"asked twice, granted once", func(s *side, a *app) {
			p := s.proposal()
			a.acquire(2, "x")
			s.applied(p, held(2, "x", 5))
			a.acquire(2, "x")
		}, "acquired granted, granted in 0s"},
		{"waits, and is granted", func(s *side, a *app) {
			s.applied(s.proposal(), waitsStanding(2))
			s.pass(time.Second)
			s.notice(a, &linkpb.Notice{Notice: &linkpb.Notice_Standing{Standing: heldStanding(2, "x", 5)}})
		}, "queued in 0s, acquired granted, waited 1s: granted"},
		{"waits, and gives up", func(s *side, a *app) {
			s.applied(s.proposal(), waitsStanding(2))
			s.pass(time.Second)
			a.cancel(2)
			s.applied(s.proposal(), &command.Result{})
		}, "queued in 0s, acquired cancelled, waited 1s: cancelled"},
		{"cancelled after it was granted", func(s *side, a *app) {
			s.applied(s.proposal(), held(2, "x", 5))
			a.cancel(2)
			s.applied(s.proposal(), &command.Result{})
		}, "acquired granted, granted in 0s, released released, after 0s"},
		{"lost by V, told once", func(s *side, a *app) {
			s.applied(s.proposal(), held(2, "x", 5))
			s.pass(ttl)
			s.h.Tick()
			s.h.Tick()
			for _, p := range s.proposals() {
				s.applied(p, &command.Result{})
			}
		}, "acquired granted, granted in 0s, released lost, after 10s"},
		{"its session ended", func(s *side, a *app) {
			s.applied(s.proposal(), held(2, "x", 5))
			a.acquire(3, "y")
			s.applied(s.proposal(), waitsStanding(3))
			s.notice(a, &linkpb.Notice{Notice: &linkpb.Notice_Ended{Ended: command.EndReason_END_REASON_EXPIRED}})
		}, "acquired granted, granted in 0s, queued in 0s, *released session_ended, after 0s, *acquired ended, waited 0s: ended"},
		{"moved to another agent: it goes on there", func(s *side, a *app) {
			s.applied(s.proposal(), held(2, "x", 5))
			s.notice(a, &linkpb.Notice{Notice: &linkpb.Notice_Moved{Moved: true}})
		}, "acquired granted, granted in 0s"},
		{"revoked", func(s *side, a *app) {
			s.applied(s.proposal(), held(2, "x", 5))
			revoked := heldStanding(2, "x", 5)
			revoked.Revoked = true
			s.notice(a, &linkpb.Notice{Notice: &linkpb.Notice_Standing{Standing: revoked}})
			s.notice(a, &linkpb.Notice{Notice: &linkpb.Notice_Standing{Standing: goneStanding(2, command.Gone_GONE_REVOKED)}})
		}, "acquired granted, granted in 0s, released revoked, after 0s"},
		{"renewed by a beat", func(s *side, a *app) {
			s.applied(s.proposal(), held(2, "x", 5))
			s.confirmed(s.beat()) // sent when the session opened: V is no later by it
			s.pass(time.Second)
			a.beat()
			b := s.beat()
			s.pass(time.Millisecond)
			s.confirmed(b)
		}, "acquired granted, granted in 0s, beat in 0s, beat in 1ms, renewed 1"},
		{"a beat renews nothing that is not held", func(s *side, a *app) {
			s.applied(s.proposal(), waitsStanding(2))
			a.beat()
			s.confirmed(s.beat())
		}, "queued in 0s, beat in 0s"},
		{"invalid", func(s *side, a *app) {
			p := s.proposal()
			a.acquire(3, "")
			s.applied(p, held(2, "x", 5))
		}, "acquired refused, acquired granted, granted in 0s"},
		{"a smaller TTL renews", func(s *side, a *app) {
			s.applied(s.proposal(), held(2, "x", 5))
			a.setTTL(3, ttl/2)
			s.applied(s.proposal(), &command.Result{TtlNanos: uint64(ttl / 2)})
		}, "acquired granted, granted in 0s, renewed 1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			holdersSide(t, func(t *testing.T, s *side) {
				m := &tally{}
				s.h.cfg.Metrics = m
				a := s.opened(ttl)
				a.acquire(2, "x")
				c.script(s, a)
				s.frames() // everything is done
				if got := m.take(); !same(got, c.want) {
					t.Errorf("measured %q, want %q", got, c.want)
				}
			})
		})
	}
}

// same compares what was measured; the parts that begin with a * of what is
// wanted come in any order.
func same(got, want string) bool {
	head, rest, any := strings.Cut(want, "*")
	if !any {
		return got == want
	}
	if !strings.HasPrefix(got, head) || len(got) != len(strings.ReplaceAll(want, "*", "")) {
		return false
	}
	for part := range strings.SplitSeq(rest, ", *") {
		if !strings.Contains(got, part) {
			return false
		}
	}
	return true
}

func TestRequestsAreMeasuredByReason(t *testing.T) {
	holdersSide(t, func(t *testing.T, s *side) {
		m := &tally{}
		s.h.cfg.Metrics = m
		a := s.opened(10 * time.Second)
		s.holds(a, 2, "x", 5)
		a.acquire(3, "y")
		s.applied(s.proposal(), waitsStanding(3))
		a.release(4, 2, 6)
		s.applied(s.proposal(), &command.Result{Code: command.Code_CODE_STALE_TOKEN})
		a.release(5, 2, 5)
		s.applied(s.proposal(), &command.Result{})
		a.cancel(3)
		s.applied(s.proposal(), &command.Result{})
		a.acquire(6, "z")
		a.cancel(6) // before its answer
		want := []string{"acquire OK", "acquire OK", "release STALE_TOKEN", "release OK", "acquire CANCELLED"}
		if !slices.Equal(m.requests, want) {
			t.Errorf("%q, want %q", m.requests, want)
		}
	})
}

func TestCensus(t *testing.T) {
	holdersSide(t, func(t *testing.T, s *side) {
		const ttl = 10 * time.Second
		a := s.opened(ttl)
		s.holds(a, 2, "x", 5)
		a.acquire(3, "y")
		s.applied(s.proposal(), waitsStanding(3))
		if got, want := s.h.Census(), (Census{Sessions: 1, Waits: 1, Holds: 1}); got != want {
			t.Errorf("%+v, want %+v", got, want)
		}
		s.pass(ttl) // nobody has looked yet
		if got := s.h.Census().Holds; got != 0 {
			t.Errorf("%d holds past V", got)
		}
	})
}

// Plain holds count until V; those that are over are forgotten.
func TestPlainHoldsAreBounded(t *testing.T) {
	var p plainHolds
	for n := range 10 * sweepMin {
		now := time.Duration(n) * time.Second
		p.put(ID{byte(n), byte(n >> 8)}, plainHold{token: uint64(n), v: now + 10*time.Second}, now)
		if len(p.held) > sweepMin {
			t.Fatalf("%d are kept", len(p.held))
		}
	}
	if n := p.count(10 * sweepMin * time.Second); n != 9 {
		t.Errorf("%d live, want those of the last ten seconds", n)
	}
}

// inSpan writes which trace a line was said in.
type inSpan struct{ slog.Handler }

func (h inSpan) Handle(ctx context.Context, r slog.Record) error {
	if s := trace.SpanContextFromContext(ctx); s.IsValid() {
		r.Add("trace", s.TraceID().String())
	}
	return h.Handler.Handle(ctx, r)
}

func TestSessionsAreTold(t *testing.T) {
	var out bytes.Buffer
	holdersSide(t, func(t *testing.T, s *side) {
		s.h.cfg.Log = slog.New(inSpan{slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug})})
		a := s.opened(10 * time.Second)
		a.say(&api.SessionRequest{
			Trace:   &api.Trace{Traceparent: sampled},
			Request: &api.SessionRequest_Acquire{Acquire: &api.Acquire{Seq: 2, Lock: "x"}},
		})
		s.applied(s.proposal(), held(2, "x", 5))
		s.pass(10 * time.Second)
		s.h.Tick()
		s.notice(a, &linkpb.Notice{Notice: &linkpb.Notice_Ended{Ended: command.EndReason_END_REASON_EXPIRED}})
		s.frames()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := s.h.Tell(ctx); err != nil {
			t.Error(err)
		}
	})
	for _, want := range []string{
		"level=DEBUG msg=granted session=", " lock=x token=5 trace=0af7651916cd43dd8448eb211c80319c\n",
		`level=INFO msg="session opened" session=`, " attachment=", `level=WARN msg="holds lost: V passed unrenewed"`, "holds=1",
		`level=INFO msg="session ended"`, "reason=EXPIRED",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in the log:\n%s", want, &out)
		}
	}
}

// Sessions that come and go while nobody takes the log leave room for warnings.
func TestCrowdLeavesRoomForWarnings(t *testing.T) {
	holdersSide(t, func(t *testing.T, s *side) {
		s.h.cfg.Log = slog.New(slog.NewTextHandler(new(bytes.Buffer), nil))
		for range linesMax {
			s.h.say(slog.LevelInfo, "x")
		}
		told := len(s.h.lines)
		s.h.say(slog.LevelWarn, "x")
		if len(s.h.lines) != told+1 || s.h.untold.Load() != linesMax/2 {
			t.Errorf("%d lines, %d untold: the warning is not among them", len(s.h.lines), s.h.untold.Load())
		}
	})
}

// A log that nobody takes costs lines, and nothing else.
func TestLinesAreBounded(t *testing.T) {
	holdersSide(t, func(t *testing.T, s *side) {
		s.h.cfg.Log = slog.New(slog.NewTextHandler(new(bytes.Buffer), nil))
		for range linesMax + 5 {
			s.h.say(slog.LevelWarn, "x")
		}
		if n := s.h.untold.Load(); n != 5 {
			t.Errorf("%d lines found no place, want 5", n)
		}
	})
}

// BenchmarkCensus is what a scrape costs at an agent with many sessions; it has
// the mutex for as long.
func BenchmarkCensus(b *testing.B) {
	const sessions, each = 1000, 10
	h := New(Config{Clock: func() time.Duration { return 0 }, Log: slog.New(slog.DiscardHandler), Wake: func() {}})
	for n := range sessions {
		s := newSession(ID{byte(n), byte(n >> 8)}, nil)
		s.attachment, s.v = 1, time.Second
		for seq := range uint64(each) {
			s.entries[seq] = &entry{seq: seq, acquire: true, held: true, reported: true}
		}
		h.sessions[s.id] = s
	}
	for b.Loop() {
		if h.Census().Holds != sessions*each {
			b.Fatal("some are not counted")
		}
	}
}
