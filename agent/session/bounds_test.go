package session

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	api "github.com/raftlock/raftlock/api/raftlock/v1"
	"github.com/raftlock/raftlock/fsm/command"
	"github.com/raftlock/raftlock/link"
	"github.com/raftlock/raftlock/link/linkpb"
)

// beliefs are n that an application lists, from a sequence on.
func beliefs(from, n int) (out []*api.Belief) {
	for i := range n {
		out = append(out, &api.Belief{Seq: uint64(from + i)})
	}
	return out
}

// What one application lists or acknowledges never makes a command that the
// link, which all sessions of the agent share, could not carry.
func TestHostileListsBreakNoLink(t *testing.T) {
	for name, say := range map[string]func(*app){
		"a list too long": func(a *app) { a.list(0, beliefs(2, command.NamedMax+1)...) },
		"many lists": func(a *app) {
			a.list(0, beliefs(2, command.NamedMax)...)
			a.list(0, beliefs(2+command.NamedMax, 1)...)
		},
		"a name too long": func(a *app) {
			a.list(0, &api.Belief{Seq: 2, Lock: strings.Repeat("x", command.NameBytesMax+1)})
		},
	} {
		t.Run(name, func(t *testing.T) {
			holdersSide(t, func(t *testing.T, s *side) {
				a := s.opened(usualTTL)
				say(a)
				select {
				case <-a.closed:
				default:
					t.Error("the stream goes on")
				}
				s.relink()
				for _, p := range s.proposals() {
					if complaint := command.Valid(p.Command); complaint != "" {
						t.Errorf("asked for what is invalid: %s", complaint)
					}
				}
			})
		})
	}
	t.Run("acknowledgements", func(t *testing.T) {
		holdersSide(t, func(t *testing.T, s *side) {
			a := s.opened(usualTTL)
			above := make([]uint64, command.SinglesMax+1)
			for i := range above {
				above[i] = uint64(i + 10)
			}
			a.say(&api.SessionRequest{AckMark: 1, AckAbove: above, Request: &api.SessionRequest_Acquire{
				Acquire: &api.Acquire{Seq: 2, Lock: "x"},
			}})
			p := s.proposal()
			if complaint := command.Valid(p.Command); complaint != "" || p.Command.GetAcquire() == nil {
				t.Errorf("asked for %T: %s", p.Command.Kind, complaint)
			}
		})
	})
}

// Whoever asks for sessions that are not there makes no heartbeat longer.
func TestUnknownSessionsAreNoStrangers(t *testing.T) {
	holdersSide(t, func(t *testing.T, s *side) {
		for i := range 3 {
			a := s.connect(&app{id: ID{byte(i + 3)}, exited: make(chan struct{}), ttl: usualTTL})
			a.resume(1, s.now())
			s.applied(s.proposal(), &command.Result{Code: command.Code_CODE_NO_SESSION})
		}
		if f := s.beat(); len(f.Except) != 0 {
			t.Errorf("%d are excepted", len(f.Except))
		}
	})
}

// A stream on which nothing is said does not stay.
func TestSilentStreamIsClosed(t *testing.T) {
	holdersSide(t, func(t *testing.T, s *side) {
		silent, speaks := s.connect(nil), s.opened(usualTTL)
		time.Sleep(firstTimeout)
		synctest.Wait()
		for a, open := range map[*app]bool{silent: false, speaks: true} {
			select {
			case <-a.closed:
				if open {
					t.Error("who spoke was closed")
				}
			default:
				if !open {
					t.Error("who said nothing stays")
				}
			}
		}
	})
}

// A call that was sent may have been applied, whatever ends it.
func TestSentCallsAreOfUnknownOutcome(t *testing.T) {
	propose := func(s *side) chan error {
		out := make(chan error, 1)
		s.served.Go(func() {
			r, err := s.h.Propose(context.Background(), &command.Command{Kind: &command.Command_Revoke{
				Revoke: &command.Revoke{Lock: "x", Token: 1},
			}})
			if err == nil && r.Code != command.Code_CODE_OK {
				err = errors.New(r.Detail)
			}
			out <- err
		})
		synctest.Wait()
		return out
	}
	full := func(s *side, p *linkpb.Propose) {
		s.down(&link.Down{Frame: &linkpb.Down_Proposed{Proposed: &linkpb.Proposed{
			Id: p.Id, Outcome: linkpb.Proposed_OUTCOME_QUEUE_FULL,
		}}})
	}
	t.Run("the agent stops", func(t *testing.T) {
		holdersSide(t, func(t *testing.T, s *side) {
			out := propose(s)
			s.proposal()
			s.h.Close()
			if err := <-out; !errors.Is(err, ErrClosed) || !errors.Is(err, ErrUnknown) {
				t.Errorf("told %v", err)
			}
		})
	})
	t.Run("the agent stops before", func(t *testing.T) {
		holdersSide(t, func(t *testing.T, s *side) {
			s.h.LinkDown()
			out := propose(s)
			s.h.Close()
			if err := <-out; !errors.Is(err, ErrClosed) || errors.Is(err, ErrUnknown) {
				t.Errorf("told %v", err)
			}
		})
	})
	t.Run("the next leader's queue is full", func(t *testing.T) {
		holdersSide(t, func(t *testing.T, s *side) {
			out := propose(s)
			s.proposal()
			s.relink()
			full(s, s.proposal())
			s.h.Tick()
			s.applied(s.proposal(), &command.Result{})
			if err := <-out; err != nil {
				t.Errorf("told %v", err)
			}
		})
	})
	t.Run("the first leader's queue is full", func(t *testing.T) {
		holdersSide(t, func(t *testing.T, s *side) {
			out := propose(s)
			full(s, s.proposal())
			if err := <-out; !errors.Is(err, ErrQueueFull) {
				t.Errorf("told %v", err)
			}
		})
	})
}

// New sessions of a user do not keep out those that an older start of its agent
// let open: they would lose their holds.
func TestOpensKeepNoResumeOut(t *testing.T) {
	holdersSide(t, func(t *testing.T, s *side) {
		s.h.mu.Lock()
		s.h.identities["uid:1"] = sessionsOfOneMax
		s.h.mu.Unlock()
		open := s.connect(nil)
		open.open(1, usualTTL)
		if all := open.heard(); len(all) == 0 || all[len(all)-1].GetAttached().GetReason() != api.Reason_REASON_LIMIT {
			t.Errorf("an open heard %v", all)
		}
		before := s.connect(&app{id: ID{2}, exited: make(chan struct{}), ttl: usualTTL})
		before.resume(1, s.now()+usualTTL)
		if all := s.proposals(); len(all) != 1 || all[0].Command.GetResume() == nil {
			t.Errorf("a resume was proposed as %v", all)
		}
	})
}
