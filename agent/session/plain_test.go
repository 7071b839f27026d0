package session

import (
	"context"
	"errors"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	api "github.com/raftlock/raftlock/api/raftlock/v1"
	"github.com/raftlock/raftlock/fsm"
	"github.com/raftlock/raftlock/fsm/command"
	"github.com/raftlock/raftlock/link"
	"github.com/raftlock/raftlock/link/linkpb"
)

// asker is one caller of a plain acquire.
type asker struct {
	leave context.CancelFunc
	reply Reply
	err   error
	done  chan struct{}
}

func (s *side) plainly(request string) *asker {
	ctx, cancel := context.WithCancel(context.Background())
	a := &asker{leave: cancel, done: make(chan struct{})}
	go func() {
		defer close(a.done)
		a.reply, a.err = s.h.PlainAcquire(ctx, &command.PlainAcquire{
			Owner: "o", Lock: "x", TtlNanos: uint64(9 * time.Second), RequestId: request, Identity: "uid:1",
		})
	}()
	return a
}

var (
	plainWaits = &command.Result{Standings: []*command.Standing{{State: command.Standing_STATE_WAITING}}}
	plainHeld  = &command.Result{
		TtlNanos: uint64(9 * time.Second), Standings: []*command.Standing{{State: command.Standing_STATE_HELD, Token: 5}},
	}
)

func init() {
	plainWaits.Code, plainHeld.Code = command.Code_CODE_OK, command.Code_CODE_OK
}

// stir tells that something changed in the plain session.
func (s *side) stir() {
	id := fsm.PlainID("o", "x")
	s.down(&link.Down{Frame: &linkpb.Down_Notice{Notice: &linkpb.Notice{
		Session: id[:], Notice: &linkpb.Notice_Stirred{Stirred: true},
	}}})
}

// cancels counts the cancels among the proposals.
func cancels(all []*linkpb.Propose) (n int) {
	for _, p := range all {
		if p.Command.GetPlainCancel() != nil {
			n++
		}
	}
	return n
}

// over is the error of a wait that was given up.
func (a *asker) over(t *testing.T) *WaitOver {
	t.Helper()
	<-a.done
	var over *WaitOver
	if !errors.As(a.err, &over) {
		t.Fatalf("%v is no WaitOver", a.err)
	}
	return over
}

func TestPlainIsReckonedFromItsFirstSending(t *testing.T) {
	holdersSide(t, func(t *testing.T, s *side) {
		s.h.LinkDown()
		a := s.plainly("")
		synctest.Wait()
		s.pass(time.Second) // for a leader: nothing was sent yet
		s.relink()
		first := s.now()
		s.proposal()
		s.pass(time.Second)
		s.relink()
		p := s.proposal()
		s.pass(time.Second)
		s.applied(p, plainHeld)
		<-a.done
		if a.err != nil || a.reply.Sent != first || !a.reply.Repeated {
			t.Errorf("%v, sent at %v, not %v; repeated: %v", a.err, a.reply.Sent, first, a.reply.Repeated)
		}
	})
}

// A wait asks again when it is stirred; its V is of the asking that was granted.
func TestPlainWaitIsGranted(t *testing.T) {
	holdersSide(t, func(t *testing.T, s *side) {
		a := s.plainly("r")
		s.applied(s.proposal(), plainWaits)
		s.pass(time.Second)
		s.stir()
		sent := s.now()
		p := s.proposal()
		s.pass(time.Second)
		s.applied(p, plainHeld)
		<-a.done
		if a.err != nil || a.reply.Sent != sent || a.reply.Repeated {
			t.Errorf("%v, sent at %v, not %v; repeated: %v", a.err, a.reply.Sent, sent, a.reply.Repeated)
		}
	})
}

func TestPlainWaitIsOver(t *testing.T) {
	for name, test := range map[string]struct {
		answer    *command.Result // nil: none
		cancelled bool
	}{
		"cancelled":          {&command.Result{Code: command.Code_CODE_OK}, true},
		"was gone":           {&command.Result{Code: command.Code_CODE_NOT_WAITING}, true},
		"nobody knows":       {nil, false},
		"refused, as a slip": {&command.Result{Code: command.Code_CODE_INVALID}, false},
	} {
		t.Run(name, func(t *testing.T) {
			holdersSide(t, func(t *testing.T, s *side) {
				a := s.plainly("r")
				asked := s.proposal()
				s.applied(asked, plainWaits)
				a.leave()
				over := a.over(t)
				if !errors.Is(a.err, ErrUnknown) || !errors.Is(a.err, context.Canceled) {
					t.Errorf("given up with %v", a.err)
				}
				p := s.proposal()
				if name := p.Command.GetPlainCancel().GetRequestId(); name == "" || name != asked.Command.GetPlainAcquire().RequestId {
					t.Fatalf("asked %v, then sent %v", asked.Command, p.Command)
				}
				if test.answer != nil {
					s.applied(p, test.answer)
				}
				ctx, cancel := context.WithTimeout(context.Background(), time.Second)
				defer cancel()
				if got := over.Cancelled(ctx); got != test.cancelled {
					t.Errorf("cancelled: %v", got)
				}
			})
		})
	}
}

// Who leaves does not end the wait of another caller of the same request.
func TestPlainWaitOfTwoCallers(t *testing.T) {
	holdersSide(t, func(t *testing.T, s *side) {
		a := s.plainly("r")
		s.applied(s.proposal(), plainWaits)
		b := s.plainly("r")
		s.applied(s.proposal(), plainWaits)
		a.leave()
		if over := a.over(t); over.Cancelled(context.Background()) {
			t.Error("told that nothing is left of it")
		}
		if n := cancels(s.proposals()); n != 0 {
			t.Fatalf("%d cancels", n)
		}
		b.leave()
		b.over(t)
		if n := cancels(s.proposals()); n != 1 {
			t.Errorf("%d cancels of the last caller", n)
		}
	})
}

// Who asks again takes over from a cancel that is still on its way: over the next
// link it is not sent any more.
func TestPlainWaitIsTakenUpAgain(t *testing.T) {
	holdersSide(t, func(t *testing.T, s *side) {
		a := s.plainly("r")
		s.applied(s.proposal(), plainWaits)
		s.h.LinkDown()
		a.leave()
		over := a.over(t)
		b := s.plainly("r")
		synctest.Wait()
		s.relink()
		all := s.proposals()
		if n := cancels(all); n != 0 || len(all) != 1 {
			t.Fatalf("%d cancels in %v", n, all)
		}
		if over.Cancelled(context.Background()) {
			t.Error("told that nothing is left of it")
		}
		s.applied(all[0], plainHeld)
		<-b.done
		if b.err != nil {
			t.Error(b.err)
		}
	})
}

// An agent that stops cancels nothing: the wait keeps its place for whoever asks
// another agent.
func TestPlainWaitOutlivesItsAgent(t *testing.T) {
	holdersSide(t, func(t *testing.T, s *side) {
		a := s.plainly("r")
		s.applied(s.proposal(), plainWaits)
		s.h.Close()
		<-a.done
		if !errors.Is(a.err, ErrUnknown) || !errors.Is(a.err, ErrClosed) {
			t.Errorf("given up with %v", a.err)
		}
		if n := cancels(s.proposals()); n != 0 {
			t.Errorf("%d cancels", n)
		}
	})
}

// A crowd that waits keeps nobody from releasing.
func TestReleasesHaveTheirOwnBound(t *testing.T) {
	holdersSide(t, func(t *testing.T, s *side) {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		var all []*asker
		for range callsMax / 2 { // each is a caller, and a proposal
			all = append(all, s.plainly("r"))
		}
		synctest.Wait()
		if _, err := s.h.PlainAcquire(ctx, &command.PlainAcquire{Owner: "p", Lock: "x", TtlNanos: 1e9, Identity: "i"}); !errors.Is(err, ErrTooMany) {
			t.Fatalf("one too many: %v", err)
		}
		s.proposals()
		released := make(chan error, 1)
		go func() {
			_, err := s.h.Propose(ctx, &command.Command{Kind: &command.Command_PlainRelease{PlainRelease: &command.PlainRelease{
				Owner: "p", Lock: "y", Token: 3,
			}}})
			released <- err
		}()
		s.applied(s.proposal(), &command.Result{Code: command.Code_CODE_OK})
		if err := <-released; err != nil {
			t.Error(err)
		}
		over, end := context.WithCancel(ctx)
		end()
		if _, err := s.h.Query(over, &linkpb.Query{}); !errors.Is(err, ErrTooMany) {
			t.Errorf("a read: %v", err)
		}
		if _, err := s.h.Query(over, &linkpb.Query{Upkeep: true}); errors.Is(err, ErrTooMany) {
			t.Errorf("the read of a release without a version: %v", err)
		}
		for _, a := range all {
			a.leave()
			<-a.done
		}
	})
}

// Opens and new acquires are refused past the rate, and consume nothing;
// repetitions, resumes and releases are not.
func TestRateOfAUser(t *testing.T) {
	holdersSide(t, func(t *testing.T, s *side) {
		full := false
		s.h.cfg.Admit = func(identity string) (time.Duration, bool) {
			if identity != "uid:1" {
				t.Errorf("asked of %q", identity)
			}
			return 1500 * time.Millisecond, !full
		}
		a := s.opened(usualTTL)
		s.holds(a, 2, "x", 1)
		full = true
		a.heard()
		a.acquire(3, "y")
		synctest.Wait()
		all := a.heard()
		if len(all) != 1 || all[0].GetAnswer().GetReason() != api.Reason_REASON_RATE_LIMITED || all[0].GetAnswer().Unknown {
			t.Fatalf("heard %v", all)
		}
		if p := s.proposals(); len(p) != 0 {
			t.Fatalf("proposed %v", p)
		}
		a.say(&api.SessionRequest{Request: &api.SessionRequest_Release{Release: &api.Release{Seq: 4, Hold: 2, Token: 1}}})
		if p := s.proposal(); p.Command.GetRelease() == nil {
			t.Errorf("proposed %v", p)
		}
		full = false
		a.acquire(3, "y") // nothing was used up
		if p := s.proposal(); p.Command.GetAcquire().GetLock() != "y" {
			t.Errorf("proposed %v", p)
		}
		full = true
		a.acquire(3, "y")
		if all := a.heard(); len(all) != 0 {
			t.Errorf("a repetition heard %v", all)
		}
		b := s.connect(nil)
		b.id[0]++
		b.open(1, usualTTL)
		synctest.Wait()
		if got := b.heard(); len(got) == 0 || got[len(got)-1].GetAttached().GetReason() != api.Reason_REASON_RATE_LIMITED {
			t.Errorf("an open heard %v", got)
		}
	})
}

// Two callers of one request: what one of them was told, the other does not take
// away by leaving.
func TestPlainHoldThatWasToldOutlivesOtherCallers(t *testing.T) {
	holdersSide(t, func(t *testing.T, s *side) {
		a := s.plainly("r")
		s.applied(s.proposal(), plainWaits)
		b := s.plainly("r")
		s.applied(s.proposal(), plainWaits)
		s.stir()
		s.applied(s.proposals()[0], plainHeld)
		synctest.Wait()
		told, left := a, b
		select {
		case <-a.done:
		default:
			told, left = b, a
		}
		<-told.done
		left.leave()
		left.over(t)
		if n := cancels(s.proposals()); n != 0 || told.err != nil {
			t.Errorf("%d cancels of a hold that was told (%v)", n, told.err)
		}
	})
}

// A caller who overlaps with one that was told asks on by a name of its own: it
// is cancelled when it leaves, and the hold that was told is not.
func TestPlainWaitBesideAHoldThatWasTold(t *testing.T) {
	holdersSide(t, func(t *testing.T, s *side) {
		a := s.plainly("r")
		first := s.proposal()
		s.applied(first, plainWaits)
		b := s.plainly("r")
		if p := s.proposal(); p.Command.GetPlainAcquire().RequestId != first.Command.GetPlainAcquire().RequestId {
			t.Errorf("asked %v beside %v", p, first)
		} else {
			s.applied(p, plainHeld)
		}
		<-b.done
		s.stir() // it was released meanwhile
		s.applied(s.proposal(), plainWaits)
		s.stir()
		anew := s.proposal()
		s.applied(anew, plainWaits)
		name := anew.Command.GetPlainAcquire().RequestId
		if name == first.Command.GetPlainAcquire().RequestId {
			t.Fatalf("asked by the name of a hold that was told: %v", anew)
		}
		a.leave()
		a.over(t)
		if p := s.proposal(); p.Command.GetPlainCancel().GetRequestId() != name {
			t.Errorf("sent %v", p)
		}
	})
}

// What is answered with too little of its TTL left is told to nobody yet: it is
// asked for again, and given up if its caller leaves.
func TestPlainHoldAnsweredLateIsNotTold(t *testing.T) {
	holdersSide(t, func(t *testing.T, s *side) {
		a := s.plainly("r")
		p := s.proposal()
		s.pass(8 * time.Second)
		s.applied(p, plainHeld)
		if p := s.proposal(); p.Command.GetPlainAcquire() == nil {
			t.Fatalf("sent %v", p)
		}
		a.leave()
		a.over(t)
		if n := cancels(s.proposals()); n != 1 {
			t.Errorf("%d cancels", n)
		}
	})
}

// A request that is repeated as soon as its former caller is gone is sent after
// that one's cancel, or without it: no link sees the cancel later.
func TestPlainCancelIsNeverLate(t *testing.T) {
	for range 50 {
		holdersSide(t, func(t *testing.T, s *side) {
			a := s.plainly("r")
			s.applied(s.proposal(), plainWaits)
			a.leave()
			<-a.done
			b := s.plainly("r") // whatever runs first
			all := s.proposals()
			s.relink()
			for i, p := range append(all, s.proposals()...) {
				if p.Command.GetPlainCancel() != nil && i > 0 {
					t.Fatalf("cancelled after it was asked for again: %v", all)
				}
			}
			b.leave()
			b.over(t)
		})
	}
}

// What was never sent leaves nothing behind, whatever its TTL: an outage does not
// fill the agent's table with cancels.
func TestUnsentPlainWaitsLeaveNoCancels(t *testing.T) {
	holdersSide(t, func(t *testing.T, s *side) {
		s.h.LinkDown()
		for range callsMax {
			a := s.plainly("r")
			a.leave()
			<-a.done
			if !errors.Is(a.err, ErrNotSent) || errors.Is(a.err, ErrUnknown) {
				t.Fatalf("given up with %v", a.err)
			}
		}
		s.relink()
		if all := s.proposals(); len(all) != 0 || s.h.load() != 0 || len(s.h.askings) != 0 {
			t.Errorf("sent %v, with %d calls and %d names left", all, s.h.load(), len(s.h.askings))
		}
	})
}

// Cancels have a bound of their own: they keep nobody from asking.
func TestPlainCancelsHaveTheirOwnBound(t *testing.T) {
	holdersSide(t, func(t *testing.T, s *side) {
		for i := range cancelsMax + 1 {
			a := s.plainly(strconv.Itoa(i))
			s.applied(s.proposal(), plainWaits)
			a.leave()
			a.over(t)
			s.frames() // its cancel is never answered
		}
		if s.h.cancelling != cancelsMax || s.h.load() != 0 {
			t.Fatalf("%d cancels and %d calls", s.h.cancelling, s.h.load())
		}
		a := s.plainly("r")
		s.applied(s.proposal(), plainHeld)
		<-a.done
		if a.err != nil {
			t.Error(a.err)
		}
	})
}

// Who asks again takes over the cancel of the first caller. If its asking is
// refused, the wait is cancelled after all, and the outcome is unknown.
func TestRefusedRepetitionStillCancelsTheWait(t *testing.T) {
	holdersSide(t, func(t *testing.T, s *side) {
		a := s.plainly("r")
		s.applied(s.proposal(), plainWaits)
		s.h.LinkDown()
		a.leave()
		a.over(t)
		b := s.plainly("r")
		synctest.Wait()
		s.relink()
		s.down(&link.Down{Frame: &linkpb.Down_Proposed{Proposed: &linkpb.Proposed{
			Id: s.proposal().Id, Outcome: linkpb.Proposed_OUTCOME_QUEUE_FULL,
		}}})
		<-b.done
		if !errors.Is(b.err, ErrUnknown) || !errors.Is(b.err, ErrQueueFull) {
			t.Errorf("told %v", b.err)
		}
		if n := cancels(s.proposals()); n != 1 {
			t.Errorf("%d cancels of a wait that nobody wants", n)
		}
	})
}

// A wait asks by every new link: what was granted meanwhile nobody stirs it for.
func TestPlainWaitAsksByANewLink(t *testing.T) {
	holdersSide(t, func(t *testing.T, s *side) {
		a := s.plainly("r")
		s.applied(s.proposal(), plainWaits)
		synctest.Wait()
		s.h.LinkDown()
		s.relink()
		s.applied(s.proposal(), plainHeld)
		<-a.done
		if a.err != nil {
			t.Error(a.err)
		}
	})
}
