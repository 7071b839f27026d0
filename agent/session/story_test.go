package session

import (
	"testing"
	"testing/synctest"
	"time"

	api "github.com/raftlock/raftlock/api/raftlock/v1"
	"github.com/raftlock/raftlock/fsm/command"
	"github.com/raftlock/raftlock/link/linkpb"
)

const usualTTL = 10 * time.Second

// A host that slept past V: whatever it looks at first, the hold is lost, and
// the application hears that before any newer deadline.
func TestVNeverComesBack(t *testing.T) {
	for name, first := range map[string]func(*side, *app, *linkpb.Beat){
		"the answer to a heartbeat from before": func(s *side, _ *app, b *linkpb.Beat) { s.confirmed(b) },
		"a tick":                                func(s *side, _ *app, b *linkpb.Beat) { s.h.Tick(); s.confirmed(b) },
		"the application's beat":                func(s *side, a *app, b *linkpb.Beat) { a.beat(); s.confirmed(b) },
		"a heartbeat of its own":                func(s *side, _ *app, b *linkpb.Beat) { s.confirmed(s.beat()) },
		"an answer out of a list":               func(s *side, a *app, b *linkpb.Beat) { s.relink(); s.settle(2); s.confirmed(s.beat()) },
	} {
		t.Run(name, func(t *testing.T) {
			holdersSide(t, func(t *testing.T, s *side) {
				a := s.opened(usualTTL)
				s.holds(a, 2, "x", 5)
				s.pass(9 * time.Second)
				a.beat()
				b := s.beat()
				s.pass(time.Second) // V was 9.8 s after the open
				first(s, a, b)
				told := a.heard()
				lostAt, why := gone(told, 2)
				leaseAt, _ := renewal(told)
				if lostAt < 0 || why != api.Reason_REASON_LOST || leaseAt >= 0 && leaseAt < lostAt {
					t.Fatalf("lost at %d (%v), newer lease at %d in %v", lostAt, why, leaseAt, told)
				}
			})
		})
	}
}

// settle answers the reconcile that a new link begins with: what is named is
// held with token 5.
func (s *side) settle(seqs ...uint64) {
	for _, p := range s.proposals() {
		if p.Command.GetReconcile() == nil {
			continue
		}
		r := &command.Result{}
		for _, b := range p.Command.GetReconcile().Named {
			for _, seq := range seqs {
				if b.Seq == seq {
					r.Standings = append(r.Standings, heldStanding(seq, "x", 5))
				}
			}
		}
		s.applied(p, r)
	}
}

// A hold that was judged lost is given back by a release that every link
// repeats until it is applied, and before any new acquire.
func TestLostIsGivenBack(t *testing.T) {
	holdersSide(t, func(t *testing.T, s *side) {
		a := s.opened(usualTTL)
		s.holds(a, 2, "x", 5)
		s.pass(usualTTL)
		s.h.Tick()
		a.acquire(3, "x")
		for range 3 {
			released := false
			for _, p := range s.proposals() {
				switch c := p.Command; {
				case c.GetRelease() != nil:
					released = c.GetRelease().Hold == 2 && c.GetRelease().Token == 5 && c.GetRelease().Lost
				case c.GetAcquire() != nil && !released:
					t.Fatal("the lock was asked for anew before the lost hold was given back")
				}
			}
			if !released {
				t.Fatal("the lost hold was not given back")
			}
			s.relink()
		}
	})
}

// Only a heartbeat that was sent after the session was confirmed moves V: the
// leader did not know the session when an earlier one arrived.
func TestBeatFromBeforeTheConfirmation(t *testing.T) {
	holdersSide(t, func(t *testing.T, s *side) {
		a := s.connect(nil)
		a.open(1, usualTTL)
		open := s.proposal()
		s.pass(time.Second)
		a.beat()
		before := s.beat()
		s.attached(a, open, 1)
		s.pass(time.Second)
		after := s.beat()
		a.heard()
		s.confirmed(before)
		if at, v := renewal(a.heard()); at >= 0 {
			t.Errorf("moved to %v by a heartbeat that did not speak for it", v)
		}
		s.confirmed(after)
		if at, _ := renewal(a.heard()); at < 0 {
			t.Error("not moved by a heartbeat that did")
		}
	})
}

// A process that does not beat is not vouched for, and its V stands still.
func TestStoppedProcessIsExcepted(t *testing.T) {
	holdersSide(t, func(t *testing.T, s *side) {
		a := s.opened(usualTTL)
		a.heard()
		s.pass(usualTTL/vouchFraction - time.Millisecond)
		young := s.beat()
		s.pass(time.Millisecond)
		old := s.beat()
		if len(young.Except) != 0 || len(old.Except) != 1 {
			t.Fatalf("excepted: %d, then %d", len(young.Except), len(old.Except))
		}
		s.confirmed(young)
		_, v := renewal(a.heard())
		s.confirmed(old)
		if _, later := renewal(a.heard()); later != 0 {
			t.Errorf("V went from %v to %v by a heartbeat that excepted the session", v, later)
		}
	})
}

// Who asks for a smaller TTL has the smaller V from then on, whatever becomes
// of the request, and answers made of the larger one do not raise it.
func TestSmallerTTLCountsFirst(t *testing.T) {
	holdersSide(t, func(t *testing.T, s *side) {
		a := s.opened(usualTTL)
		s.holds(a, 2, "x", 5)
		a.setTTL(3, time.Second)
		if s.proposal().Command.GetSetTtl() == nil {
			t.Fatal("not asked for")
		}
		s.pass(990 * time.Millisecond)
		s.h.Tick()
		if at, why := gone(a.heard(), 2); at < 0 || why != api.Reason_REASON_LOST {
			t.Error("still held past the smaller TTL's V")
		}
	})
}

// A larger TTL counts for heartbeats sent after its answer.
func TestLargerTTLCountsLater(t *testing.T) {
	holdersSide(t, func(t *testing.T, s *side) {
		a := s.opened(time.Second)
		a.setTTL(2, usualTTL)
		p := s.proposal()
		began := s.now()
		before := s.beat()
		s.applied(p, &command.Result{TtlNanos: uint64(usualTTL)})
		after := s.beat()
		a.heard()
		s.confirmed(before)
		if _, v := renewal(a.heard()); v > began+time.Second {
			t.Errorf("V %v too far by a heartbeat from before the answer", v-began)
		}
		s.confirmed(after)
		if _, v := renewal(a.heard()); v != began+9800*time.Millisecond {
			t.Errorf("V at %v", v-began)
		}
	})
}

// A grant that comes with little of V left is reported once that was renewed.
func TestLateGrantRenewsFirst(t *testing.T) {
	holdersSide(t, func(t *testing.T, s *side) {
		a := s.opened(usualTTL)
		a.acquire(2, "x")
		p := s.proposal()
		s.pass(9 * time.Second)
		a.beat()
		s.applied(p, held(2, "x", 5))
		if told := a.heard(); len(told) != 0 {
			t.Fatalf("reported 0.8 s before V: %v", told)
		}
		s.confirmed(s.beat())
		told := a.heard()
		st := told[len(told)-1].GetAnswer().GetStanding()
		if st.GetState() != api.Standing_STATE_HELD || time.Duration(st.DeadlineNanos)-s.now() < 9*time.Second {
			t.Fatalf("told %v", told)
		}
	})
}

// The V of a revoked hold stands still while that of its session goes on; once
// it has passed, the hold is given back.
func TestRevokedHoldIsFrozen(t *testing.T) {
	holdersSide(t, func(t *testing.T, s *side) {
		a := s.opened(usualTTL)
		s.holds(a, 2, "x", 5)
		s.holds(a, 3, "y", 6)
		mark := heldStanding(2, "x", 5)
		mark.Revoked = true
		s.notice(a, &linkpb.Notice{Notice: &linkpb.Notice_Standing{Standing: mark}})
		for range 10 {
			s.pass(time.Second)
			a.beat()
			s.confirmed(s.beat())
		}
		told := a.heard()
		if at, _ := gone(told, 2); at < 0 {
			t.Error("the revoked hold outlived its V")
		}
		if at, _ := gone(told, 3); at >= 0 {
			t.Error("the other hold did not live on")
		}
	})
}

// A list speaks for the sequences that its maker has seen, and no others.
func TestListEndsAtTheFirstUnseen(t *testing.T) {
	holdersSide(t, func(t *testing.T, s *side) {
		a := s.opened(usualTTL)
		s.holds(a, 4, "x", 5)
		s.relink()
		r := s.proposal().Command.GetReconcile()
		if r.GetNext() != 5 || len(r.Named) != 1 || r.Named[0].Seq != 4 || r.Named[0].Token != 5 {
			t.Fatalf("listed %v", r)
		}
	})
}

// An acquire that overtook the application's list is left alone by it.
func TestAcquireOvertakesTheApplicationsList(t *testing.T) {
	holdersSide(t, func(t *testing.T, s *side) {
		a := s.opened(usualTTL)
		b := s.connect(a)
		b.resume(2, 0)
		s.attached(b, s.proposal(), 2)
		b.acquire(5, "x")
		s.frames()
		b.list(3)
		if r := s.proposal().Command.GetReconcile(); len(r.GetNamed()) != 1 || r.Named[0].Seq != 5 {
			t.Fatalf("the acquire was taken away by a list that was made before it: %v", r)
		}
	})
}

// A process that dies while its open is on its way: the session is ended as
// soon as the open's answer says under which attachment.
func TestDeathDuringAnOpen(t *testing.T) {
	holdersSide(t, func(t *testing.T, s *side) {
		a := s.connect(nil)
		a.open(1, time.Minute)
		open := s.proposal()
		close(a.exited)
		synctest.Wait()
		if b := s.beat(); len(b.Except) != 1 {
			t.Error("a dead process was vouched for")
		}
		s.attached(a, open, 9)
		p := s.proposal()
		if p.Command.GetEnd() == nil || p.Command.Attachment != 9 {
			t.Fatalf("no end of attachment 9 but %v", p.Command)
		}
	})
}

// An open that is asked again gets the answer of once, which renewed nothing:
// V stays where its first sending put it.
func TestRepeatedOpenKeepsItsTime(t *testing.T) {
	holdersSide(t, func(t *testing.T, s *side) {
		began := s.now()
		a := s.opened(usualTTL)
		s.pass(5 * time.Second)
		b := s.connect(a)
		b.open(1, usualTTL)
		s.attached(b, s.proposal(), 1)
		for _, r := range b.heard() {
			if d := r.GetAttached(); d != nil && time.Duration(d.DeadlineNanos)-began > 9800*time.Millisecond {
				t.Errorf("V %v after the first sending", time.Duration(d.DeadlineNanos)-began)
			}
		}
	})
}

// A resume that is asked again counts from its first sending too.
func TestRepeatedResumeKeepsItsTime(t *testing.T) {
	holdersSide(t, func(t *testing.T, s *side) {
		a := s.opened(usualTTL)
		s.pass(time.Second)
		began := s.now()
		b := s.connect(a)
		b.resume(2, 0)
		s.attached(b, s.proposal(), 2)
		s.pass(5 * time.Second)
		c := s.connect(b)
		c.resume(2, 0)
		s.attached(c, s.proposal(), 2)
		c.list(3)
		s.settle()
		if _, v := renewal(c.heard()); v-began > 9800*time.Millisecond {
			t.Errorf("V %v after the first sending", v-began)
		}
	})
}

// An open that was asked twice is answered twice, and confirmed once.
func TestOpenAskedTwice(t *testing.T) {
	holdersSide(t, func(t *testing.T, s *side) {
		a := s.connect(nil)
		a.open(1, usualTTL)
		b := s.connect(a)
		b.open(1, usualTTL)
		for _, p := range s.proposals() {
			s.attached(b, p, 1)
		}
		s.pass(time.Second)
		b.heard()
		s.confirmed(s.beat())
		if at, _ := renewal(b.heard()); at < 0 {
			t.Error("renewed no more")
		}
	})
}

// An agent that knows nothing of a resumed session yet says nothing of it: a
// list without the application's would give its holds away.
func TestNoListBeforeTheApplications(t *testing.T) {
	holdersSide(t, func(t *testing.T, s *side) {
		a := s.opened(usualTTL)
		s.holds(a, 2, "x", 5)
		s.restart(8)
		b := s.connect(a)
		b.resume(9, s.now()+usualTTL)
		s.attached(b, s.proposal(), 2)
		s.relink()
		for _, p := range s.proposals() {
			if r := p.Command.GetReconcile(); r != nil {
				t.Fatalf("gave back all below %d but %v", r.Next, r.Named)
			}
		}
		b.list(9, &api.Belief{Seq: 2, Token: 5, Lock: "x"})
		if r := s.proposal().Command.GetReconcile(); r.GetNext() != 10 || len(r.Named) != 1 {
			t.Fatalf("then listed %v", r)
		}
	})
}

// A hold was revoked while its agent was away. Until the reconcile has told
// of that, nothing moves the hold's V: neither the resume nor a heartbeat.
func TestRevokedWhileTheAgentRestarts(t *testing.T) {
	for name, between := range map[string]func(*side, *app){
		"at once":                    func(*side, *app) {},
		"a heartbeat is answered":    func(s *side, a *app) { a.beat(); s.confirmed(s.beat()) },
		"it was sent after the list": func(s *side, a *app) { a.list(9, &api.Belief{Seq: 2, Token: 5, Lock: "x"}); s.confirmed(s.beat()) },
	} {
		t.Run(name, func(t *testing.T) {
			holdersSide(t, func(t *testing.T, s *side) {
				a := s.opened(usualTTL)
				s.holds(a, 2, "x", 5)
				v := s.now() + 9800*time.Millisecond
				s.restart(8)
				s.pass(5 * time.Second)
				b := s.connect(a)
				b.resume(9, v)
				resume := s.proposal()
				s.pass(time.Second)
				s.attached(b, resume, 2)
				s.pass(time.Second)
				between(s, b)
				b.list(9, &api.Belief{Seq: 2, Token: 5, Lock: "x"})
				for _, p := range s.proposals() {
					r := &command.Result{Standings: []*command.Standing{heldStanding(2, "x", 5)}}
					r.Standings[0].Revoked = true
					s.applied(p, r)
				}
				if at, moved := renewal(b.heard()); at >= 0 && name != "at once" && moved == 0 {
					t.Fatal("unreadable lease")
				}
				s.pass(3 * time.Second) // past the V from before
				s.h.Tick()
				if at, why := gone(b.heard(), 2); at < 0 || why != api.Reason_REASON_LOST {
					t.Error("the revoked hold outlived the V it had when it was revoked")
				}
			})
		})
	}
}

// A restarted agent knows a session by what its application says of it, and
// reckons with a short TTL until the cluster tells. A hold that the application
// believes in for longer is not given back before that: if it is stopped it
// does not hear.
func TestListedHoldLastsAsLongAsBelieved(t *testing.T) {
	holdersSide(t, func(t *testing.T, s *side) {
		const ttl = time.Minute
		a := s.opened(ttl)
		s.holds(a, 2, "x", 5)
		v := s.now() + ttl/100*98
		s.restart(8)
		b := s.connect(a)
		b.resume(3, v)
		s.attached(b, s.proposal(), 2)
		b.list(4, &api.Belief{Seq: 2, Token: 5, Lock: "x"})
		s.settle(2)
		s.h.LinkDown()
		b.heard()
		for s.now() < v {
			s.h.Tick()
			if at, why := gone(b.heard(), 2); at >= 0 {
				t.Fatalf("told gone (%v) %v before its V", why, v-s.now())
			}
			s.pass(time.Second)
		}
		s.h.Tick()
		if at, why := gone(b.heard(), 2); at < 0 || why != api.Reason_REASON_LOST {
			t.Fatalf("not told lost at its V: %v", why)
		}
	})
}
