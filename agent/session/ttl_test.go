package session

import (
	"testing"
	"time"

	api "github.com/raftlock/raftlock/api/raftlock/v1"
	"github.com/raftlock/raftlock/fsm/command"
	"github.com/raftlock/raftlock/link"
	"github.com/raftlock/raftlock/link/linkpb"
)

// told is the deadline that an acquire's answer told.
func told(all []*api.SessionResponse) (v time.Duration) {
	for _, r := range all {
		if st := r.GetAnswer().GetStanding(); st.GetState() == api.Standing_STATE_HELD {
			v = time.Duration(st.DeadlineNanos)
		}
	}
	return v
}

func (s *side) full(p *linkpb.Propose) {
	s.down(&link.Down{Frame: &linkpb.Down_Proposed{Proposed: &linkpb.Proposed{
		Id: p.Id, Outcome: linkpb.Proposed_OUTCOME_QUEUE_FULL,
	}}})
}

func (s *side) changed(p *linkpb.Propose, ttl time.Duration) {
	s.applied(p, &command.Result{TtlNanos: uint64(ttl)})
}

// A larger TTL was answered and has not begun to count when a smaller one is
// asked for: the answer to a heartbeat sent in between must not bring it in.
func TestLargerTTLDiesWithASmallerOne(t *testing.T) {
	for name, smaller := range map[string]time.Duration{"than both": 2 * time.Second, "between them": 7 * time.Second} {
		t.Run(name, func(t *testing.T) {
			holdersSide(t, func(t *testing.T, s *side) {
				a := s.opened(5 * time.Second)
				a.setTTL(2, 10*time.Second)
				s.changed(s.proposal(), 10*time.Second)
				a.beat()
				b := s.beat()
				a.setTTL(3, smaller)
				p := s.proposal()
				s.confirmed(b)
				s.changed(p, smaller)
				a.heard()
				a.acquire(4, "x")
				s.applied(s.proposal(), held(4, "x", 5))
				if v := told(a.heard()); v > s.now()+smaller {
					t.Fatalf("V %v from now under a TTL of %v", v-s.now(), smaller)
				}
			})
		})
	}
}

// A change of TTL that the queue refused is off: what is in force counts again.
func TestRefusedTTLIsOff(t *testing.T) {
	for name, refuse := range map[string]func(*side, *app){
		"full queue": func(s *side, a *app) { a.setTTL(3, time.Second); s.full(s.proposal()) },
		"invalid":    func(_ *side, a *app) { a.setTTL(3, 0) },
	} {
		t.Run(name, func(t *testing.T) {
			holdersSide(t, func(t *testing.T, s *side) {
				a := s.opened(30 * time.Second)
				s.holds(a, 2, "x", 5)
				refuse(s, a)
				a.heard()
				for range 30 {
					a.beat()
					s.confirmed(s.beat())
					s.pass(700 * time.Millisecond)
				}
				a.heard()
				a.beat()
				s.confirmed(s.beat())
				if at, _ := gone(a.heard(), 2); at >= 0 {
					t.Fatal("the hold was lost by a TTL that was refused")
				}
				if left := s.h.sessions[a.id].v - s.now(); left < 29*time.Second {
					t.Fatalf("V only %v ahead under a TTL of 30 s", left)
				}
			})
		})
	}
}

// A smaller TTL brings a revoked hold's V nearer too: a new leader reckons the
// hold's last possible V with the TTL that it finds.
func TestSmallerTTLAndARevokedHold(t *testing.T) {
	holdersSide(t, func(t *testing.T, s *side) {
		a := s.opened(60 * time.Second)
		s.holds(a, 2, "x", 5)
		mark := heldStanding(2, "x", 5)
		mark.Revoked = true
		s.notice(a, &linkpb.Notice{Notice: &linkpb.Notice_Standing{Standing: mark}})
		a.setTTL(3, 2*time.Second)
		s.changed(s.proposal(), 2*time.Second)
		a.heard()
		s.pass(2 * time.Second)
		s.h.Tick()
		if at, _ := gone(a.heard(), 2); at < 0 {
			t.Fatal("the revoked hold outlived the smaller TTL")
		}
	})
}

// A full queue refuses the repetition of an acquire that waits: the wait stands.
func TestFullQueueForgetsNoWait(t *testing.T) {
	holdersSide(t, func(t *testing.T, s *side) {
		a := s.opened(usualTTL)
		a.acquire(2, "x")
		waiting := &command.Standing{Seq: 2, State: command.Standing_STATE_WAITING, Lock: "x"}
		s.applied(s.proposal(), &command.Result{Standings: []*command.Standing{waiting}})
		a.heard()
		b := s.connect(a)
		b.resume(3, 0)
		s.attached(b, s.proposal(), 2)
		for _, p := range s.proposals() {
			if p.Command.GetAcquire() != nil {
				s.full(p)
			}
		}
		if s.h.sessions[a.id].entries[2] == nil {
			t.Fatal("the wait is forgotten")
		}
		for _, r := range b.heard() {
			if r.GetAnswer().GetReason() == api.Reason_REASON_QUEUE_FULL {
				t.Fatal("a wait that stands was answered with QUEUE_FULL")
			}
		}
	})
}

// The end of a session was being proposed and is withdrawn: it is reconciled,
// and so confirmed, on the link that it has.
func TestWithdrawnEndIsReconciled(t *testing.T) {
	holdersSide(t, func(t *testing.T, s *side) {
		a := s.opened(usualTTL)
		s.notice(a, &linkpb.Notice{Notice: &linkpb.Notice_Ending{Ending: true}})
		a.beat()
		s.h.Tick()
		for _, p := range s.proposals() {
			if p.Command.GetReconcile() != nil {
				s.applied(p, &command.Result{})
			}
		}
		if !s.h.sessions[a.id].confirmed {
			t.Fatal("never confirmed again")
		}
	})
}

// A session that this agent dropped is not vouched for by silence; resumed on
// the same link, it is vouched for again.
func TestDroppedSessionIsExcepted(t *testing.T) {
	holdersSide(t, func(t *testing.T, s *side) {
		a := s.opened(usualTTL)
		b := s.connect(a)
		b.resume(2, 0)
		s.applied(s.proposal(), &command.Result{Code: command.Code_CODE_LIMIT})
		if n := len(s.beat().Except); n != 1 {
			t.Fatalf("%d excepted, want the dropped session", n)
		}
		c := s.connect(a)
		c.resume(3, 0)
		s.attached(c, s.proposal(), 2)
		c.list(4)
		for _, p := range s.proposals() {
			s.applied(p, &command.Result{})
		}
		c.beat()
		if n := len(s.beat().Except); n != 0 {
			t.Fatalf("%d excepted, want none", n)
		}
	})
}

// A change of TTL is on its way when its application forgets it: it may yet be
// applied, so nothing may be reckoned with the TTL from before it.
func TestForgottenTTLStillCounts(t *testing.T) {
	for name, forget := range map[string]func(*app){
		"not on the list": func(a *app) { a.list(5, &api.Belief{Seq: 2, Token: 5, Lock: "x"}) },
		"cancelled": func(a *app) {
			a.say(&api.SessionRequest{Request: &api.SessionRequest_Cancel{Cancel: &api.Cancel{Target: 3}}})
		},
	} {
		t.Run(name, func(t *testing.T) {
			holdersSide(t, func(t *testing.T, s *side) {
				a := s.opened(usualTTL)
				s.holds(a, 2, "x", 5)
				a.setTTL(3, 2*time.Second)
				s.proposal() // not answered yet
				forget(a)
				s.proposals()
				a.acquire(4, "y") // refused: what is in force is looked at
				for _, p := range s.proposals() {
					s.full(p)
				}
				a.beat()
				s.confirmed(s.beat())
				if v := s.h.sessions[a.id].v; v > s.now()+2*time.Second {
					t.Fatalf("V %v from now while a TTL of 2 s may be in force", v-s.now())
				}
			})
		})
	}
}

// The cluster says of a change of TTL only that its sequence is over: whether it
// was applied is not known, so the smaller TTL goes on counting.
func TestStaleTTLStaysSmall(t *testing.T) {
	holdersSide(t, func(t *testing.T, s *side) {
		a := s.opened(usualTTL)
		s.holds(a, 2, "x", 5)
		a.setTTL(3, 2*time.Second)
		s.applied(s.proposal(), &command.Result{Code: command.Code_CODE_STALE_SEQUENCE})
		a.beat()
		s.confirmed(s.beat())
		if v := s.h.sessions[a.id].v; v > s.now()+2*time.Second {
			t.Fatalf("V %v from now while a TTL of 2 s may be in force", v-s.now())
		}
	})
}
