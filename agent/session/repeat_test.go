package session

import (
	"testing"

	api "github.com/raftlock/raftlock/api/raftlock/v1"
	"github.com/raftlock/raftlock/fsm/command"
	"github.com/raftlock/raftlock/link"
	"github.com/raftlock/raftlock/link/linkpb"
)

// A request that is on its way is not sent again on the same link, however
// often its application repeats it: it would fill the link for its whole host.
func TestRequestOnItsWayIsSentOnce(t *testing.T) {
	holdersSide(t, func(t *testing.T, s *side) {
		a := s.opened(usualTTL)
		a.acquire(2, "x")
		p := s.proposal()
		for range 3 {
			a.acquire(2, "x")
		}
		if all := s.proposals(); len(all) != 0 {
			t.Fatalf("asked again for %v", all)
		}
		// Answered as waiting, it may be asked again: the answer may be lost.
		s.applied(p, &command.Result{Standings: []*command.Standing{{Seq: 2, State: command.Standing_STATE_WAITING, Lock: "x", Position: 1}}})
		a.acquire(2, "x")
		p = s.proposal()
		// Refused for load, a repetition is sent.
		s.down(&link.Down{Frame: &linkpb.Down_Proposed{Proposed: &linkpb.Proposed{
			Id: p.Id, Outcome: linkpb.Proposed_OUTCOME_QUEUE_FULL,
		}}})
		a.acquire(2, "x")
		if len(s.proposals()) == 0 {
			t.Error("not asked again after it was refused")
		}
	})
}

// Until the cluster has said who opened, another process that claims the
// session is asked to come again: it may be the one.
func TestResumeBesideAnUnprovenOne(t *testing.T) {
	holdersSide(t, func(t *testing.T, s *side) {
		thief := s.connect(nil)
		thief.ttl = usualTTL
		thief.resume(2, 0)
		opener := s.further(&app{id: thief.id, ttl: usualTTL})
		opener.resume(3, 0)
		if r := opener.attached(); r.GetReason() != api.Reason_REASON_RATE_LIMITED {
			t.Fatalf("told %v", r)
		}
		s.applied(s.proposal(), &command.Result{Code: command.Code_CODE_WRONG_PROCESS})
		if r := thief.attached(); r.GetReason() != api.Reason_REASON_DENIED {
			t.Fatalf("the thief was told %v", r)
		}
		again := s.connect(opener)
		again.resume(4, 0)
		s.attached(again, s.proposal(), 2)
		if r := again.attached(); r.GetReason() != api.Reason_REASON_OK {
			t.Errorf("told %v", r)
		}
	})
}
