package session

import (
	"testing"
	"testing/synctest"
	"time"

	api "github.com/raftlock/raftlock/api/raftlock/v1"
	"github.com/raftlock/raftlock/fsm/command"
	"github.com/raftlock/raftlock/link"
	"github.com/raftlock/raftlock/link/linkpb"
)

// further is a further process's stream: nothing is said on it yet.
func (s *side) further(of *app) *app {
	a := &app{
		s: s, id: of.id, exited: make(chan struct{}),
		in: make(chan *api.SessionRequest, 16), closed: make(chan struct{}),
	}
	s.serve(a)
	return a
}

func (a *app) join() *app {
	a.say(&api.SessionRequest{Request: &api.SessionRequest_Join{Join: &api.Join{
		Session: a.id[:], Secret: secret, ClockNanos: uint64(a.s.now()),
	}}})
	return a
}

// resumed is a's process on a new stream after a restart of the agent: its
// resume is answered, and its list, of nothing.
func (s *side) resumed(a *app) *app {
	s.t.Helper()
	s.restart(8)
	b := s.connect(a)
	b.resume(9, s.now()+usualTTL)
	s.attached(b, s.proposal(), 2)
	b.list(10)
	s.settle()
	return b
}

// joined is a process whose join was applied and answered.
func (s *side) joined(of *app) *app {
	s.t.Helper()
	a := s.further(of).join()
	p := s.proposal()
	if p.Command.GetJoin() == nil {
		s.t.Fatalf("asked for %v", p.Command)
	}
	s.applied(p, &command.Result{})
	if r := a.attached(); r.GetReason() != api.Reason_REASON_OK {
		s.t.Fatalf("told %v", r)
	}
	return a
}

func (a *app) exit() {
	close(a.exited)
	synctest.Wait()
}

// attached is the newest answer to an open, resume or join; nil: none since
// the last look.
func (a *app) attached() (last *api.Attached) {
	for _, r := range a.heard() {
		if r.GetAttached() != nil {
			last = r.GetAttached()
		}
	}
	return last
}

func (a *app) ended() api.Reason {
	for _, r := range a.heard() {
		if r.GetEnded() != nil {
			return r.GetEnded().Reason
		}
	}
	return 0
}

// leaves are the ids that Leave commands name.
func leaves(ps []*linkpb.Propose) (ids []uint64) {
	for _, p := range ps {
		if l := p.Command.GetLeave(); l != nil {
			ids = append(ids, l.Process)
		}
	}
	return ids
}

func ends(ps []*linkpb.Propose) (n int) {
	for _, p := range ps {
		if p.Command.GetEnd() != nil {
			n++
		}
	}
	return n
}

// A join is answered when the log has the process, is asked for again over a
// new link until then, and names the attachment that its agent knows.
func TestJoinIsAnsweredOnceApplied(t *testing.T) {
	holdersSide(t, func(t *testing.T, s *side) {
		a := s.connect(nil)
		a.open(1, usualTTL)
		open := s.proposal()
		b := s.further(a).join()
		s.attached(a, open, 7)
		first := s.proposal().Command
		if first.GetJoin() == nil || first.Attachment != 7 || b.attached() != nil {
			t.Fatalf("asked for %v before the answer to the open", first)
		}
		s.relink()
		for _, p := range s.proposals() {
			if j := p.Command.GetJoin(); j != nil {
				if j.Process.Id != first.GetJoin().Process.Id || j.Process.Id == open.Command.GetOpen().Process.Id {
					t.Fatalf("process ids: opener %d, joined %d, then %d", open.Command.GetOpen().Process.Id,
						first.GetJoin().Process.Id, j.Process.Id)
				}
				s.applied(p, &command.Result{})
			}
		}
		r := b.attached()
		if r.GetReason() != api.Reason_REASON_OK || r.Seq != 0 || r.TtlNanos != uint64(usualTTL) ||
			time.Duration(r.DeadlineNanos) != s.now()+9800*time.Millisecond {
			t.Fatalf("told %v", r)
		}
		if s.relink(); len(s.proposals()) != 1 {
			t.Error("what was applied is repeated")
		}
	})
}

func TestJoinRefused(t *testing.T) {
	for name, tt := range map[string]struct {
		join func(*testing.T, *side, *app) *app
		want api.Reason
	}{
		"no such session": {func(_ *testing.T, s *side, a *app) *app {
			b := s.further(a)
			b.id = ID{9}
			return b.join()
		}, api.Reason_REASON_NOT_FOUND},
		"another secret": {func(_ *testing.T, s *side, a *app) *app {
			b := s.further(a)
			b.say(&api.SessionRequest{Request: &api.SessionRequest_Join{Join: &api.Join{Session: b.id[:], Secret: make([]byte, 31)}}})
			return b
		}, api.Reason_REASON_DENIED},
		"no id": {func(_ *testing.T, s *side, a *app) *app {
			b := s.further(a)
			b.say(&api.SessionRequest{Request: &api.SessionRequest_Join{Join: &api.Join{Secret: secret}}})
			return b
		}, api.Reason_REASON_INVALID},
		"a process that cannot be watched": {func(_ *testing.T, s *side, a *app) *app {
			b := s.further(a)
			b.exited = nil
			return b.join()
		}, api.Reason_REASON_DENIED},
		"more than a session may have": {func(_ *testing.T, s *side, a *app) *app {
			for range command.ProcessesMax - 1 {
				s.joined(a)
			}
			return s.further(a).join()
		}, api.Reason_REASON_LIMIT},
		"the log has too many": {func(_ *testing.T, s *side, a *app) *app {
			b := s.further(a).join()
			s.applied(s.proposal(), &command.Result{Code: command.Code_CODE_LIMIT, Detail: "full"})
			return b
		}, api.Reason_REASON_LIMIT},
		"the opener is gone": {func(_ *testing.T, s *side, a *app) *app {
			a.exit()
			return s.further(a).join()
		}, api.Reason_REASON_SESSION_ENDED},
		"it ended meanwhile": {func(_ *testing.T, s *side, a *app) *app {
			b := s.further(a).join()
			s.applied(s.proposal(), &command.Result{Code: command.Code_CODE_NO_SESSION, Detail: "gone"})
			return b
		}, api.Reason_REASON_SESSION_ENDED},
		"its open is refused": {func(_ *testing.T, s *side, a *app) *app {
			c := s.connect(nil)
			c.id, c.ttl = ID{3}, usualTTL
			c.open(1, usualTTL)
			b := s.further(c).join()
			s.applied(s.proposal(), &command.Result{Code: command.Code_CODE_LIMIT, Detail: "full"})
			return b
		}, api.Reason_REASON_LIMIT},
	} {
		t.Run(name, func(t *testing.T) {
			holdersSide(t, func(t *testing.T, s *side) {
				b := tt.join(t, s, s.opened(usualTTL))
				r := b.attached()
				if r.GetReason() != tt.want || r.Detail == "" {
					t.Fatalf("told %v", r)
				}
				select {
				case <-b.closed:
				default:
					t.Error("the stream goes on")
				}
			})
		})
	}
}

// The opener dies while another process lives: the log learns of it, nothing
// ends, and the other's beats speak for the session. The last death ends it.
func TestLastProcessEndsTheSession(t *testing.T) {
	holdersSide(t, func(t *testing.T, s *side) {
		a := s.connect(nil)
		a.open(1, usualTTL)
		open := s.proposal()
		s.attached(a, open, 1)
		b := s.joined(a)
		s.holds(a, 2, "x", 5)
		a.exit()
		all := s.proposals()
		if ids := leaves(all); ends(all) != 0 || len(ids) != 1 || ids[0] != open.Command.GetOpen().Process.Id {
			t.Fatalf("asked for %v", all)
		}
		s.applied(all[0], &command.Result{})
		for range 5 {
			s.pass(3 * time.Second)
			b.beat()
			f := s.beat()
			if len(f.Except) != 0 {
				t.Fatal("not vouched for, though one of its processes lives and beats")
			}
			s.confirmed(f)
		}
		s.pass(usualTTL/vouchFraction + time.Millisecond)
		if f := s.beat(); len(f.Except) != 1 {
			t.Fatal("vouched for, though nobody beats")
		}
		if sessions, holds, _ := s.h.Count(); sessions != 1 || holds != 1 {
			t.Errorf("%d sessions and %d holds left", sessions, holds)
		}
		b.exit()
		all = s.proposals()
		if ends(all) != 1 || len(leaves(all)) != 0 {
			t.Fatalf("asked for %v", all)
		}
	})
}

// A joined process dies first: the log learns of it, the opener goes on, and
// its death is the last.
func TestJoinedProcessLeaves(t *testing.T) {
	holdersSide(t, func(t *testing.T, s *side) {
		a := s.opened(usualTTL)
		b := s.joined(a)
		b.exit()
		s.relink() // the Leave is lost with its link
		all := s.proposals()
		if ids := leaves(all); ends(all) != 0 || len(ids) != 1 {
			t.Fatalf("asked for %v", all)
		}
		a.exit()
		if all := s.proposals(); ends(all) != 1 {
			t.Fatalf("asked for %v", all)
		}
	})
}

// While the opener lives its beats alone count: stopped, it loses its holds
// whatever the others do.
func TestJoinedSpeakAfterTheOpenerOnly(t *testing.T) {
	holdersSide(t, func(t *testing.T, s *side) {
		a := s.opened(usualTTL)
		b := s.joined(a)
		s.pass(usualTTL/vouchFraction + time.Millisecond)
		b.beat()
		if f := s.beat(); len(f.Except) != 1 {
			t.Error("vouched for by another process while the opener is stopped")
		}
		a.exit()
		s.frames()
		if f := s.beat(); len(f.Except) != 0 {
			t.Error("not vouched for by the one that lives and beats")
		}
	})
}

// The TTL changes: those that joined are told, since they beat by it.
func TestJoinedHearsOfTheTTL(t *testing.T) {
	holdersSide(t, func(t *testing.T, s *side) {
		a := s.opened(usualTTL)
		b := s.joined(a)
		a.setTTL(2, time.Second)
		if r := b.attached(); r.GetTtlNanos() != uint64(time.Second) || time.Duration(r.DeadlineNanos) > s.now()+time.Second {
			t.Fatalf("told %v", r)
		}
		s.applied(s.proposal(), &command.Result{TtlNanos: uint64(time.Second)})
		if r := b.attached(); r != nil {
			t.Fatalf("told %v again", r)
		}
	})
}

// The session moves to another agent: who joined is told nothing final, and
// joins anew there.
func TestJoinedOfASessionThatMoved(t *testing.T) {
	holdersSide(t, func(t *testing.T, s *side) {
		a := s.opened(usualTTL)
		b, c := s.joined(a), s.further(a).join()
		s.notice(a, &linkpb.Notice{Notice: &linkpb.Notice_Moved{Moved: true}})
		for _, x := range []*app{b, c} {
			if all := x.heard(); len(all) != 0 {
				t.Errorf("told %v", all)
			}
			select {
			case <-x.closed:
			default:
				t.Error("the stream goes on")
			}
		}
	})
}

// The same process joins again, after its stream broke or beside it: it is
// listed once, and the newest stream counts.
func TestJoinTwice(t *testing.T) {
	holdersSide(t, func(t *testing.T, s *side) {
		a := s.opened(usualTTL)
		b := s.joined(a)
		c := s.further(a)
		c.exited = b.exited
		c.join()
		if all := s.proposals(); len(all) != 0 {
			t.Fatalf("asked for %v", all)
		}
		if r := c.attached(); r.GetReason() != api.Reason_REASON_OK {
			t.Fatalf("told %v", r)
		}
		if b.ended() != api.Reason_REASON_SUPERSEDED {
			t.Error("the older stream goes on")
		}
		b.exit() // and c's, which is the same
		if all := s.proposals(); len(leaves(all)) != 1 {
			t.Fatalf("asked for %v", all)
		}
	})
}

// The opener dies before a join is answered: either the joined one counts or
// it is refused, and what it is told is what is so.
func TestJoinRacesTheOpenersDeath(t *testing.T) {
	for name, tt := range map[string]struct {
		result *command.Result
		want   api.Reason
	}{
		"the join was first":  {&command.Result{}, api.Reason_REASON_OK},
		"the death was first": {&command.Result{Code: command.Code_CODE_NO_SESSION}, api.Reason_REASON_SESSION_ENDED},
	} {
		t.Run(name, func(t *testing.T) {
			holdersSide(t, func(t *testing.T, s *side) {
				a := s.opened(usualTTL)
				b := s.further(a).join()
				join := s.proposal()
				a.exit()
				if all := s.proposals(); ends(all) != 0 || len(leaves(all)) != 1 {
					t.Fatalf("asked for %v", all)
				}
				s.applied(join, tt.result)
				if r := b.attached(); r.GetReason() != tt.want {
					t.Fatalf("told %v", r)
				}
			})
		})
	}
}

// After a restart of the agent the log may list processes that never joined
// anew: the opener's death leaves it to the log whether it was the last.
func TestDeathAfterTheAgentsRestart(t *testing.T) {
	holdersSide(t, func(t *testing.T, s *side) {
		a := s.opened(usualTTL)
		b := s.resumed(a)
		b.exit()
		all := s.proposals()
		if len(all) != 2 || all[0].Command.GetJoin() == nil || all[1].Command.GetLeave() == nil ||
			all[0].Command.GetJoin().Process.Id != all[1].Command.GetLeave().Process {
			t.Fatalf("asked for %v", all)
		}
	})
}

// After a restart of the agent one joins that the kernel could not tell from
// others: its death leaves it to the log whether it was the last, as any other.
func TestDeathOfANamelessOne(t *testing.T) {
	holdersSide(t, func(t *testing.T, s *side) {
		a := s.opened(usualTTL)
		b := s.resumed(a)
		c := s.further(b)
		c.nameless = true
		c.join()
		join := s.proposal()
		s.applied(join, &command.Result{})
		b.exit()
		s.frames()
		c.exit()
		all := s.proposals()
		if ids := leaves(all); ends(all) != 0 || len(ids) != 1 || ids[0] != join.Command.GetJoin().Process.Id {
			t.Fatalf("asked for %v", all)
		}
	})
}

// A session that was resumed may have been attached elsewhere meanwhile, unheard
// of here, and joined there: that process counts.
func TestDeathAfterAResume(t *testing.T) {
	holdersSide(t, func(t *testing.T, s *side) {
		a := s.opened(usualTTL)
		a.Close()
		b := s.connect(a)
		b.resume(2, s.now()+usualTTL)
		s.attached(b, s.proposal(), 3)
		b.list(10)
		s.settle()
		b.exit()
		if all := s.proposals(); ends(all) != 0 || len(leaves(all)) != 1 {
			t.Fatalf("asked for %v", all)
		}
	})
}

// Where the kernel cannot tell of the process's exit, or tell the process from
// others, the end of its stream is its exit, and its application knows.
func TestStreamBoundSession(t *testing.T) {
	for name, make := range map[string]func(*app){
		"its exit cannot be seen": func(a *app) { a.exited = nil },
		"it cannot be recognised": func(a *app) { a.nameless = true },
	} {
		t.Run(name, func(t *testing.T) {
			holdersSide(t, func(t *testing.T, s *side) {
				a := s.further(&app{id: ID{1}})
				make(a)
				a.open(1, usualTTL)
				s.attached(a, s.proposal(), 1)
				if r := a.attached(); !r.GetStreamBound() {
					t.Fatalf("told %v", r)
				}
				b := s.further(a)
				b.exited, b.nameless = a.exited, a.nameless
				b.resume(2, 0)
				if r := b.attached(); r.GetReason() != api.Reason_REASON_DENIED {
					t.Fatalf("a resume was told %v", r)
				}
				if all := s.proposals(); len(all) != 0 {
					t.Fatalf("asked for %v", all)
				}
				a.Close()
				if all := s.proposals(); ends(all) != 1 {
					t.Fatalf("asked for %v", all)
				}
				if f := s.beat(); len(f.Except) != 1 {
					t.Error("vouched for")
				}
			})
		})
	}
}

// The stream of a stopped process can be broken by its agent, and the process
// does not hear of it: what it holds stays its own until V, and not longer.
func TestStreamBoundHoldLastsToV(t *testing.T) {
	holdersSide(t, func(t *testing.T, s *side) {
		a := s.further(&app{id: ID{1}})
		a.nameless = true
		a.open(1, usualTTL)
		s.attached(a, s.proposal(), 1)
		s.holds(a, 2, "x", 5)
		v := s.now() + 9800*time.Millisecond
		s.pass(time.Second)
		a.Close()
		if all := s.proposals(); ends(all) != 0 {
			t.Fatalf("ended %v before its V: %v", v-s.now(), all)
		}
		for s.now() < v {
			f := s.beat()
			if len(f.Except) != 1 {
				t.Fatal("vouched for")
			}
			s.confirmed(f)
			if all := s.proposals(); ends(all) != 0 {
				t.Fatalf("ended %v before its V: %v", v-s.now(), all)
			}
			s.pass(min(v-s.now(), s.h.Tick()))
		}
		s.h.Tick()
		if all := s.proposals(); ends(all) != 1 {
			t.Fatalf("asked for %v", all)
		}
	})
	t.Run("unless its death is seen", func(t *testing.T) {
		holdersSide(t, func(t *testing.T, s *side) {
			a := s.further(&app{id: ID{1}})
			a.nameless = true
			a.open(1, usualTTL)
			s.attached(a, s.proposal(), 1)
			s.holds(a, 2, "x", 5)
			a.Close()
			a.exit()
			if all := s.proposals(); ends(all) != 1 {
				t.Fatalf("asked for %v", all)
			}
		})
	})
}

// A process's join was refused for load when its leave was applied: the leave
// found nobody, and is repeated after the join.
func TestLeaveOutlastsARefusedJoin(t *testing.T) {
	holdersSide(t, func(t *testing.T, s *side) {
		a := s.opened(usualTTL)
		b := s.further(a).join()
		join := s.proposal()
		b.exit()
		leave := s.proposal()
		s.down(&link.Down{Frame: &linkpb.Down_Proposed{Proposed: &linkpb.Proposed{
			Id: join.Id, Outcome: linkpb.Proposed_OUTCOME_QUEUE_FULL,
		}}})
		s.applied(leave, &command.Result{Code: command.Code_CODE_NO_PROCESS})
		s.h.Tick()
		var left []uint64
		for _, p := range s.proposals() {
			switch {
			case p.Command.GetJoin() != nil:
				s.applied(p, &command.Result{})
			case p.Command.GetLeave() != nil:
				left = append(left, p.Command.GetLeave().Process)
			}
		}
		if len(left) != 1 || left[0] != join.Command.GetJoin().Process.Id {
			t.Fatalf("left: %v, joined: %v", left, join.Command.GetJoin().Process.Id)
		}
	})
}

// The end of an orphan is on its way: who would join now would be told that it
// counts, and lose the session all the same.
func TestNoJoinOfAnEndingOrphan(t *testing.T) {
	holdersSide(t, func(t *testing.T, s *side) {
		a := s.opened(usualTTL)
		b := s.resumed(a)
		b.exit()
		s.frames()
		if s.h.EndOrphan(ID{9}, 2) || !s.h.EndOrphan(b.id, 1) || ends(s.proposals()) != 0 {
			t.Fatal("ended another")
		}
		if !s.h.EndOrphan(b.id, 2) {
			t.Fatal("not known")
		}
		if all := s.proposals(); ends(all) != 1 {
			t.Fatalf("asked for %v", all)
		}
		if r := s.further(b).join().attached(); r.GetReason() != api.Reason_REASON_SESSION_ENDED {
			t.Errorf("a join was told %v", r)
		}
	})
}

// An agent that stops ends no session, a stream-bound one neither.
func TestStoppingEndsNothing(t *testing.T) {
	holdersSide(t, func(t *testing.T, s *side) {
		a := s.further(&app{id: ID{1}})
		a.exited = nil
		a.open(1, usualTTL)
		s.attached(a, s.proposal(), 1)
		s.h.Close()
		if all := s.proposals(); len(all) != 0 {
			t.Fatalf("asked for %v", all)
		}
	})
}

// lease_on_exit: every death is left to the lease, and takes the process out
// of the list while others live.
func TestLeaseOnExitOfManyProcesses(t *testing.T) {
	holdersSide(t, func(t *testing.T, s *side) {
		a := s.connect(nil)
		a.ttl = usualTTL
		a.say(&api.SessionRequest{Request: &api.SessionRequest_Open{Open: &api.Open{
			Session: a.id[:], Secret: secret, Seq: 1, TtlNanos: uint64(usualTTL), LeaseOnExit: true,
		}}})
		s.attached(a, s.proposal(), 1)
		b := s.joined(a)
		a.exit()
		if all := s.proposals(); len(leaves(all)) != 1 || ends(all) != 0 {
			t.Fatalf("asked for %v", all)
		}
		b.exit()
		if all := s.proposals(); len(all) != 0 {
			t.Fatalf("asked for %v", all)
		}
		if f := s.beat(); len(f.Except) != 1 {
			t.Error("vouched for")
		}
	})
}

// On the stream of a joined process only beats are taken.
func TestJoinedStreamTakesBeatsOnly(t *testing.T) {
	holdersSide(t, func(t *testing.T, s *side) {
		a := s.opened(usualTTL)
		b := s.joined(a)
		b.acquire(2, "x")
		if all := s.proposals(); len(all) != 0 {
			t.Fatalf("asked for %v", all)
		}
		select {
		case <-b.closed:
		default:
			t.Error("the stream goes on")
		}
	})
}

// Streams hear whether a leader is reached: first thing when none is, before
// their open is answered, and on every change.
func TestReachIsTold(t *testing.T) {
	reaches := func(a *app) (out []api.Reason) {
		for _, r := range a.heard() {
			if r.GetReach() != nil {
				out = append(out, r.GetReach().Reason)
			}
		}
		return out
	}
	holdersSide(t, func(t *testing.T, s *side) {
		a := s.opened(usualTTL)
		b := s.joined(a)
		s.h.SetReach(api.Reason_REASON_NO_QUORUM)
		s.h.SetReach(api.Reason_REASON_NO_QUORUM)
		for _, x := range []*app{a, b} {
			if got := reaches(x); len(got) != 1 || got[0] != api.Reason_REASON_NO_QUORUM {
				t.Fatalf("told %v", got)
			}
		}
		c := s.connect(nil)
		c.id = ID{2}
		c.open(1, usualTTL)
		if got := c.heard(); len(got) != 1 || got[0].GetReach().GetReason() != api.Reason_REASON_NO_QUORUM {
			t.Fatalf("told %v", got)
		}
		s.h.SetReach(api.Reason_REASON_OK)
		if got := reaches(c); len(got) != 1 || got[0] != api.Reason_REASON_OK || s.h.Reach() != api.Reason_REASON_OK {
			t.Fatalf("told %v", got)
		}
	})
}

// Without a session an agent does not wait for long before it looks for another
// leader, though its heartbeats are rare.
func TestIdleAgentIsSoonStale(t *testing.T) {
	holdersSide(t, func(t *testing.T, s *side) {
		s.confirmed(s.beat())
		s.beat()
		if wait := s.h.Tick(); wait < time.Second {
			t.Errorf("an idle agent ticks again after %v", wait)
		}
		s.pass(time.Second)
		if s.h.Stale() {
			t.Error("stale after a second")
		}
		s.pass(time.Millisecond)
		if !s.h.Stale() || s.h.Thirds() != 1 {
			t.Error("not stale after more than a second")
		}
	})
}
