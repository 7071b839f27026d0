package session

import (
	api "github.com/raftlock/raftlock/api/raftlock/v1"
	"github.com/raftlock/raftlock/fsm/command"
)

// reasons maps what the state machine answers to what applications are told.
// Codes that never reach an application as such are absent, and say INVALID.
var reasons = map[command.Code]api.Reason{
	command.Code_CODE_OK:             api.Reason_REASON_OK,
	command.Code_CODE_INVALID:        api.Reason_REASON_INVALID,
	command.Code_CODE_LIMIT:          api.Reason_REASON_LIMIT,
	command.Code_CODE_NO_SESSION:     api.Reason_REASON_SESSION_ENDED,
	command.Code_CODE_SUPERSEDED:     api.Reason_REASON_SUPERSEDED,
	command.Code_CODE_WRONG_SECRET:   api.Reason_REASON_DENIED,
	command.Code_CODE_WRONG_PROCESS:  api.Reason_REASON_DENIED,
	command.Code_CODE_EXISTS:         api.Reason_REASON_EXISTS,
	command.Code_CODE_STALE_SEQUENCE: api.Reason_REASON_USED_UP,
	command.Code_CODE_USED_UP:        api.Reason_REASON_USED_UP,
	command.Code_CODE_HELD:           api.Reason_REASON_HELD,
	command.Code_CODE_NOT_HELD:       api.Reason_REASON_NOT_HELD,
	command.Code_CODE_STALE_TOKEN:    api.Reason_REASON_STALE_TOKEN,
	command.Code_CODE_NOT_OWNER:      api.Reason_REASON_NOT_OWNER,
	command.Code_CODE_NOT_WAITING:    api.Reason_REASON_NOT_WAITING,
	command.Code_CODE_NO_PROCESS:     api.Reason_REASON_NOT_FOUND,
	command.Code_CODE_NOT_FOUND:      api.Reason_REASON_NOT_FOUND,
	command.Code_CODE_WRONG_CLUSTER:  api.Reason_REASON_INVALID,
	command.Code_CODE_UNKNOWN_KIND:   api.Reason_REASON_INVALID,
}

// ReasonOf is what an application is told of a code.
func ReasonOf(c command.Code) api.Reason { return reason(c) }

func reason(c command.Code) api.Reason {
	if r, ok := reasons[c]; ok {
		return r
	}
	return api.Reason_REASON_INVALID
}

var goneReasons = map[command.Gone]api.Reason{
	command.Gone_GONE_RELEASED:  api.Reason_REASON_RELEASED,
	command.Gone_GONE_CANCELLED: api.Reason_REASON_CANCELLED,
	command.Gone_GONE_REFUSED:   api.Reason_REASON_HELD,
	command.Gone_GONE_LOST:      api.Reason_REASON_LOST,
	command.Gone_GONE_REVOKED:   api.Reason_REASON_REVOKED,
	command.Gone_GONE_UNNAMED:   api.Reason_REASON_CANCELLED,
	command.Gone_GONE_LIMIT:     api.Reason_REASON_LIMIT,
	command.Gone_GONE_INVALID:   api.Reason_REASON_INVALID,
}

// standingOf says in the application's terms what is known of e. A hold that
// is not reported yet is still waiting, as far as the application may know.
func standingOf(s *session, e *entry, st *command.Standing) *api.Standing {
	out := &api.Standing{Seq: e.seq, Lock: e.lock, Position: e.position, Token: st.Token, Revoked: e.revoked}
	switch {
	case st.State == command.Standing_STATE_GONE:
		out.State, out.Reason = api.Standing_STATE_GONE, api.Reason_REASON_LOST
		if r, ok := goneReasons[st.Gone]; ok {
			out.Reason = r
		}
	case e.lost:
		out.State, out.Reason = api.Standing_STATE_GONE, api.Reason_REASON_LOST
	case e.held && e.reported:
		out.State, out.DeadlineNanos = api.Standing_STATE_HELD, uint64(s.v)
		if e.revoked {
			out.DeadlineNanos = uint64(min(s.v, e.frozen))
		}
		if e.revoked && e.listed {
			// Its V is the application's to know: this session's may have gone
			// on since the mark.
			out.DeadlineNanos = 0
		}
	default:
		out.State, out.Token = api.Standing_STATE_WAITING, 0
	}
	return out
}
