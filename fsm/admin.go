package fsm

import (
	"github.com/raftlock/raftlock/fsm/command"
	"github.com/raftlock/raftlock/internal/mutant"
)

func (s *State) establish(term uint64, e *command.Establish) *command.Result {
	if s.clusterID != "" && s.clusterID != e.ClusterId {
		return refuse(command.Code_CODE_WRONG_CLUSTER, "the log belongs to cluster "+s.clusterID)
	}
	s.clusterID, s.term = e.ClusterId, term
	return ok()
}

// jumpTokens leaps over every token that a history cut off by a recovery may
// have given out (I2), and over every attachment: agents may still name those
// of the lost history, and a late end must not match another session's.
func (s *State) jumpTokens(j *command.JumpTokens) *command.Result {
	const secondsMax = command.TokenLimit >> 21
	next := s.token + command.TokenJump
	if j.UnixSeconds < secondsMax {
		next = max(next, j.UnixSeconds<<21)
	}
	if j.UnixSeconds >= secondsMax || next > command.TokenLimit-2*command.TokenReserve {
		return refuse(command.Code_CODE_INVALID, "unix_seconds: tokens must stay below 2^53")
	}
	s.token = next
	if !mutant.On("fsm-jump-attachments") {
		s.attachments = max(s.attachments+command.TokenJump, j.UnixSeconds<<21)
	}
	return ok()
}

// setVersion takes any higher version, known to this program or not: replicas
// of different programs must agree. Who proposes one makes sure first.
func (s *State) setVersion(v *command.SetVersion) *command.Result {
	s.version = max(s.version, v.Version)
	return ok()
}

// revoke marks a hold for giving up, or takes it away at once.
func (s *State) revoke(r *command.Revoke) *command.Result {
	l, held := s.lock(r.Lock)
	if !held {
		return refuse(command.Code_CODE_NOT_FOUND, "nobody holds the lock")
	}
	if r.Token != 0 && r.Token != l.holder.token {
		return refuse(command.Code_CODE_STALE_TOKEN, detailStaleToken)
	}
	x := s.touch(s.session(l.holder.session))
	if r.Now {
		s.emitGone(x, l.holder, command.Gone_GONE_REVOKED)
		s.lose(x, l.holder, command.Gone_GONE_REVOKED, command.EndReason_END_REASON_FORCED)
		return ok()
	}
	h := l.holder
	if !h.revoked {
		c := *h
		c.revoked = true
		h = &c
		s.put(h)
		s.revoked++
		s.emit(Event{
			Kind: EventRevoked, Session: x.id, Attachment: x.attachment, Incarnation: x.incarnation,
			Seq: h.seq, Token: h.token, Lock: h.lock, TTLNanos: x.ttl,
		})
	}
	return standingResult(s.standing(h))
}
