package session

import (
	"context"
	"errors"
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
	plainHeld  = &command.Result{Standings: []*command.Standing{{State: command.Standing_STATE_HELD, Token: 5}}}
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
				s.applied(s.proposal(), plainWaits)
				a.leave()
				over := a.over(t)
				if !errors.Is(a.err, ErrUnknown) || !errors.Is(a.err, context.Canceled) {
					t.Errorf("given up with %v", a.err)
				}
				p := s.proposal()
				if p.Command.GetPlainCancel().GetRequestId() != "r" {
					t.Fatalf("sent %v", p.Command)
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
