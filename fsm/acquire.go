package fsm

import (
	"github.com/raftlock/raftlock/fsm/command"
	"github.com/raftlock/raftlock/internal/mutant"
)

// acquire takes the lock, or queues for it. Two acquires of one session contend
// like strangers. Past a bound nothing changes but that the sequence is used
// up: a late copy of it must not take a lock that nobody waits for any more.
func (s *State) acquire(x *session, seq uint64, a *command.Acquire) *command.Result {
	if again := s.repeated(x, seq, 0); again != nil {
		return again
	}
	if no := full(x, command.AnswersMax); no != nil {
		return no
	}
	u := &use{
		session: x.id, seq: seq, lock: a.Lock, priority: a.Priority,
		more: newMore(pairsOf(a.Metadata), nil),
	}
	l, held := s.lock(a.Lock)
	switch {
	case held && l.holder.session == x.id && mutant.On("fsm-reentry"):
		again := s.standing(l.holder)
		again.Seq = seq
		return standingResult(again)
	case held && a.Try:
		return s.goneResult(s.useUp(x, u, command.Gone_GONE_REFUSED))
	case x.claims() >= command.ClaimsMax, l.waiters >= command.WaitersMax, s.tokensShort():
		return s.goneResult(s.useUp(x, u, command.Gone_GONE_LIMIT))
	case held:
		s.enqueue(x, u)
	default:
		u = s.grant(x, u)
	}
	return standingResult(s.standing(u))
}

// tokensShort keeps enough tokens for everybody who waits already: a promotion
// cannot be refused.
func (s *State) tokensShort() bool { return s.token >= command.TokenLimit-command.TokenReserve }

// useUp records that an acquire's sequence is over before it began.
func (s *State) useUp(x *session, u *use, why command.Gone) *use {
	g := &use{session: x.id, seq: u.seq, kind: useGone, lock: u.lock, gone: uint8(why)}
	x.answers++
	s.put(g)
	return g
}

// release gives a hold up. With a sequence its answer is cached; without one it
// was made by an agent or the leader and is safe to repeat, since it names hold
// and token; then whoever serves the session must hear of it.
func (s *State) release(x *session, seq uint64, r *command.Release) *command.Result {
	if again := s.repeated(x, seq, answerRelease); again != nil {
		return again
	}
	a := answer{kind: answerRelease, code: command.Code_CODE_OK}
	u := s.use(x.id, r.Hold)
	switch {
	case u == nil || u.kind != useHold:
		a.code = command.Code_CODE_NOT_HELD
	case u.token != r.Token:
		a.code = command.Code_CODE_STALE_TOKEN
	default:
		why, reason := releasedWhy(u, seq, r.Lost)
		if seq == 0 {
			s.emitGone(x, u, why)
		}
		s.lose(x, u, why, reason)
	}
	if seq == 0 || x.answers >= command.AnswersHardMax {
		return answerResult(x, a)
	}
	return s.cache(x, seq, a)
}

func releasedWhy(u *use, seq uint64, lost bool) (command.Gone, command.EndReason) {
	switch {
	case lost:
		return command.Gone_GONE_LOST, command.EndReason_END_REASON_CLOSED
	case seq == 0 && u.revoked:
		return command.Gone_GONE_REVOKED, command.EndReason_END_REASON_FORCED
	}
	return command.Gone_GONE_RELEASED, command.EndReason_END_REASON_CLOSED
}

// cancel undoes an acquire whatever became of it. One not seen yet is used up,
// so that it has no effect when it comes.
func (s *State) cancel(x *session, target uint64) *command.Result {
	const why = command.Gone_GONE_CANCELLED
	u := s.use(x.id, target)
	switch {
	case u != nil && u.claim():
		s.lose(x, u, why, command.EndReason_END_REASON_CLOSED)
	case u != nil && u.kind == useAnswered:
		return refuse(command.Code_CODE_USED_UP, "the sequence was no acquire")
	case u != nil || target <= x.mark:
	case x.answers >= command.AnswersHardMax:
		return refuse(command.Code_CODE_LIMIT, detailAnswers)
	case !mutant.On("fsm-cancel-unseen"):
		s.useUp(x, &use{seq: target}, why)
	}
	return standingResult(s.standingOf(x, target))
}

// standingOf is the standing of a sequence that may have been forgotten.
func (s *State) standingOf(x *session, seq uint64) *command.Standing {
	if u := s.use(x.id, seq); u != nil {
		return s.standing(u)
	}
	if seq <= x.mark {
		return &command.Standing{Seq: seq, State: command.Standing_STATE_GONE}
	}
	return &command.Standing{Seq: seq, State: command.Standing_STATE_UNSEEN}
}
