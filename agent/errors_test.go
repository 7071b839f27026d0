package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/raftlock/raftlock/agent/bootstrap"
	"github.com/raftlock/raftlock/agent/session"
	api "github.com/raftlock/raftlock/api/raftlock/v1"
)

func infoOf(t *testing.T, err error) (*status.Status, *errdetails.ErrorInfo) {
	t.Helper()
	st, ok := status.FromError(err)
	if !ok {
		t.Fatalf("%v is no status", err)
	}
	for _, d := range st.Details() {
		if i, ok := d.(*errdetails.ErrorInfo); ok {
			return st, i
		}
	}
	t.Fatalf("%v has no ErrorInfo", err)
	return nil, nil
}

func TestEveryReasonHasItsCode(t *testing.T) {
	for n, name := range api.Reason_name {
		why := api.Reason(n)
		if why == api.Reason_REASON_UNSPECIFIED || why == api.Reason_REASON_OK {
			continue
		}
		st, info := infoOf(t, refused(why, "detail"))
		if st.Code() == codes.Internal || st.Code() == codes.OK {
			t.Errorf("%s has code %v", name, st.Code())
		}
		if "REASON_"+info.Reason != name || info.Domain != ErrorDomain || info.Metadata["applied"] != "no" {
			t.Errorf("%s is told as %v", name, info)
		}
	}
}

// Who releases gets the same advice as who renews, and wants no lock again.
func TestAdviceFitsReleases(t *testing.T) {
	for _, why := range []api.Reason{api.Reason_REASON_NOT_HELD, api.Reason_REASON_NOT_OWNER, api.Reason_REASON_STALE_TOKEN} {
		st, _ := infoOf(t, refusedFor(why, "detail", nil))
		if text := st.Message(); !strings.HasPrefix(text, "detail; ") || strings.Contains(text, "acquire") {
			t.Errorf("%v: %q", why, text)
		}
	}
}

func TestErrorsTellReasonEffectAndNextStep(t *testing.T) {
	s := &API{a: &Agent{decision: &bootstrap.Decision{ClusterID: "c"}}, log: slog.New(slog.DiscardHandler)}
	for _, c := range []struct {
		name    string
		err     error
		code    codes.Code
		reason  string
		applied string
	}{
		{"no quorum, sent", errors.Join(session.ErrUnknown, session.ErrNoQuorum), codes.Unavailable, "NO_QUORUM", "unknown"},
		{"no quorum, not sent", errors.Join(session.ErrNotSent, session.ErrNoQuorum), codes.Unavailable, "NO_QUORUM", "no"},
		{"no leader", fmt.Errorf("get: %w", errors.Join(session.ErrNotSent, session.ErrNoLeader)), codes.Unavailable, "NO_LEADER", "no"},
		{"the queue is full", session.ErrQueueFull, codes.ResourceExhausted, "QUEUE_FULL", "no"},
		{"nobody foresaw it", errors.New("a secret detail"), codes.Internal, "UNSPECIFIED", "unknown"},
	} {
		st, info := infoOf(t, s.refusal(c.err, changes))
		if st.Code() != c.code || info.Reason != c.reason || info.Metadata["applied"] != c.applied {
			t.Errorf("%s: %v %v", c.name, st, info)
		}
		if strings.Contains(st.Message(), "\n") {
			t.Errorf("%s: more than a line: %q", c.name, st.Message())
		}
		if c.code == codes.Internal && st.Message() != "internal error; the agent's log has it" {
			t.Errorf("%s: tells %q", c.name, st.Message())
		}
	}
}

// A read has no effect that could be unknown; an agent without a cluster has no
// election to wait for.
func TestRefusalsFitTheirCase(t *testing.T) {
	s := &API{a: &Agent{decision: &bootstrap.Decision{ClusterID: "c"}}, log: slog.New(slog.DiscardHandler)}
	late := errors.Join(session.ErrUnknown, session.ErrNoLeader, context.DeadlineExceeded)
	st, info := infoOf(t, s.refusal(late, reads))
	if info.Metadata["applied"] != "no" || strings.Contains(st.Message(), "applied") {
		t.Errorf("a read: %v, %q", info, st.Message())
	}
	if st, _ = infoOf(t, s.refusal(late, changes)); st.Message() != "no leader; applied: unknown; an election takes 2 to 3 s: try again" {
		t.Errorf("a change: %q", st.Message())
	}
	s.a.decision = nil
	if st, _ = infoOf(t, s.refusal(late, reads)); !strings.Contains(st.Message(), "looks for its cluster") {
		t.Errorf("without a cluster: %q", st.Message())
	}
}
