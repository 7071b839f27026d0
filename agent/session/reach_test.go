package session

import (
	"context"
	"errors"
	"testing"

	api "github.com/raftlock/raftlock/api/raftlock/v1"
	"github.com/raftlock/raftlock/fsm/command"
	"github.com/raftlock/raftlock/link/linkpb"
)

// Who gives up a call hears whether it may have been applied, and what was
// missing.
func TestCallSaysWhatIsMissing(t *testing.T) {
	for name, tt := range map[string]struct {
		linked bool
		reach  api.Reason
		want   []error
		not    []error
	}{
		"sent, a leader is reached": {true, api.Reason_REASON_OK, []error{ErrUnknown}, []error{ErrNoLeader, ErrNoQuorum}},
		"sent, none leads now":      {true, api.Reason_REASON_NO_LEADER, []error{ErrUnknown, ErrNoLeader}, []error{ErrNotSent}},
		"not sent, none leads":      {false, api.Reason_REASON_NO_LEADER, []error{ErrNotSent, ErrNoLeader}, []error{ErrUnknown}},
		"not sent, no quorum":       {false, api.Reason_REASON_NO_QUORUM, []error{ErrNotSent, ErrNoQuorum}, []error{ErrNoLeader}},
	} {
		t.Run(name, func(t *testing.T) {
			holdersSide(t, func(t *testing.T, s *side) {
				if !tt.linked {
					s.h.LinkDown()
				}
				s.h.SetReach(tt.reach)
				ctx, cancel := context.WithCancel(context.Background())
				cancel()
				_, proposed := s.h.Propose(ctx, &command.Command{Kind: &command.Command_Revoke{Revoke: &command.Revoke{Lock: "x"}}})
				_, asked := s.h.Query(ctx, &linkpb.Query{Query: &linkpb.Query_Get{Get: &linkpb.GetLock{Lock: "x"}}})
				for _, err := range []error{proposed, asked} {
					for _, want := range append(tt.want, context.Canceled) {
						if !errors.Is(err, want) {
							t.Errorf("%v is not %v", err, want)
						}
					}
					for _, not := range tt.not {
						if errors.Is(err, not) {
							t.Errorf("%v is %v", err, not)
						}
					}
				}
			})
		})
	}
}

// An answered heartbeat says that a leader is reached.
func TestAnsweredHeartbeatIsReach(t *testing.T) {
	holdersSide(t, func(t *testing.T, s *side) {
		s.h.SetReach(api.Reason_REASON_NO_QUORUM)
		b := s.beat()
		if s.h.Reach() != api.Reason_REASON_NO_QUORUM {
			t.Error("reached by a heartbeat that nobody answered")
		}
		s.confirmed(b)
		if s.h.Reach() != api.Reason_REASON_OK {
			t.Error("not reached by one that was answered")
		}
	})
}

// Count tells what is held and waited for, and not what was lost.
func TestCount(t *testing.T) {
	holdersSide(t, func(t *testing.T, s *side) {
		a := s.opened(usualTTL)
		s.holds(a, 2, "x", 5)
		a.acquire(3, "y")
		s.applied(s.proposal(), &command.Result{Standings: []*command.Standing{
			{Seq: 3, State: command.Standing_STATE_WAITING, Lock: "y", Position: 1},
		}})
		if sessions, holds, waits := s.h.Count(); sessions != 1 || holds != 1 || waits != 1 {
			t.Errorf("%d sessions, %d holds, %d waits", sessions, holds, waits)
		}
		s.pass(usualTTL)
		s.h.Tick()
		if _, holds, _ := s.h.Count(); holds != 0 {
			t.Errorf("%d holds past V", holds)
		}
	})
}
