package fsm

import (
	"github.com/raftlock/raftlock/fsm/command"
	"github.com/raftlock/raftlock/internal/mutant"
)

// acknowledge takes in what the client says it received: the mark, and single
// sequences above it. The mark never falls. Acknowledged answers are forgotten;
// waits and holds stay, for acknowledging concerns requests. A sequence that
// was acknowledged before it was used is stale when it comes: its client said
// that it wants no answer.
func (s *State) acknowledge(x *session, mark uint64, above []uint64) {
	if x.plain != nil {
		return
	}
	if mark > x.mark {
		s.raiseMark(x, mark)
	}
	for _, seq := range above {
		if seq > x.mark && x.singles < command.SinglesMax {
			s.acknowledgeOne(x, seq)
		}
	}
}

// raiseMark looks only at the sequences between old and new mark: below the old
// one there are claims alone, already freed of their flags.
func (s *State) raiseMark(x *session, mark uint64) {
	var passed []*use
	s.usesOf(x.id, x.mark+1, func(u *use) bool {
		if u.seq > mark {
			return false
		}
		if !u.claim() || u.acked || mutant.On("fsm-mark-wait") {
			passed = append(passed, u)
		}
		return true
	})
	x.mark = mark
	for _, u := range passed {
		switch {
		case u.kind == useWait && mutant.On("fsm-mark-wait"):
			s.remove(x, u, command.Gone_GONE_RELEASED)
		case u.claim():
			if u.acked {
				x.singles--
			}
			c := *u
			c.acked = false
			s.put(&c)
		case u.kind == useAcked:
			x.singles--
			s.forget(u)
		default:
			x.answers--
			s.forget(u)
		}
	}
}

func (s *State) acknowledgeOne(x *session, seq uint64) {
	u := s.use(x.id, seq)
	if u != nil && (u.acked || u.kind == useAcked) {
		return
	}
	x.singles++
	if u != nil && u.claim() {
		c := *u
		c.acked = true
		s.put(&c)
		return
	}
	if u != nil {
		x.answers--
	}
	s.put(&use{session: x.id, seq: seq, kind: useAcked})
}

// repeated answers a sequence that is not new: nil says that it is. acquires
// ask with answerKind 0. What the state holds of an acquire is told even below
// the mark: the mark concerns the request, the standing is a fact.
func (s *State) repeated(x *session, seq uint64, kind answerKind) *command.Result {
	if seq == 0 {
		return nil
	}
	u := s.use(x.id, seq)
	if u != nil && u.claim() && kind == 0 {
		return standingResult(s.standing(u))
	}
	if seq <= x.mark || u != nil && (u.acked || u.kind == useAcked) {
		return refuse(command.Code_CODE_STALE_SEQUENCE, "the sequence was acknowledged before: its answer was received")
	}
	if u == nil || mutant.On("fsm-seq-repeat") {
		return nil
	}
	switch {
	case u.kind == useGone && kind == 0:
		return s.goneResult(u)
	case u.kind == useAnswered && u.more.answer.kind == kind:
		return answerResult(x, u.more.answer)
	}
	return refuse(command.Code_CODE_USED_UP, "the sequence was used by another kind of request")
}

func standingResult(st *command.Standing) *command.Result {
	return &command.Result{Code: command.Code_CODE_OK, Standings: []*command.Standing{st}}
}

// goneResult answers a repeated acquire that is over. The code is that of once.
func (s *State) goneResult(u *use) *command.Result {
	r := standingResult(s.standing(u))
	switch command.Gone(u.gone) {
	case command.Gone_GONE_REFUSED:
		r.Code, r.Detail, r.Holder = command.Code_CODE_HELD, detailHeld, s.holderOf(u.lock)
	case command.Gone_GONE_LIMIT:
		r.Code, r.Detail = command.Code_CODE_LIMIT, detailClaims
	}
	return r
}

const (
	detailHeld       = "somebody else holds the lock"
	detailClaims     = "too many holds and waits: of this session, or in the lock's queue"
	detailAnswers    = "too many answers not acknowledged: acknowledge what was received"
	detailNotHeld    = "the named hold is not held"
	detailStaleToken = "the hold has another token"
)

// cache keeps the answer of a sequence for its repetition.
func (s *State) cache(x *session, seq uint64, a answer) *command.Result {
	if seq > x.mark {
		x.answers++
		s.put(&use{session: x.id, seq: seq, kind: useAnswered, more: &more{answer: a}})
	}
	return answerResult(x, a)
}

func answerResult(x *session, a answer) *command.Result {
	r := &command.Result{Code: a.code, Attachment: a.attachment, Incarnation: a.incarnation}
	if a.kind != answerRelease {
		r.TtlNanos = x.ttl
	}
	switch a.code {
	case command.Code_CODE_NOT_HELD:
		r.Detail = detailNotHeld
	case command.Code_CODE_STALE_TOKEN:
		r.Detail = detailStaleToken
	}
	return r
}

// full refuses a new sequence of a session that does not acknowledge.
func full(x *session, most uint32) *command.Result {
	if x.answers < most {
		return nil
	}
	return refuse(command.Code_CODE_LIMIT, detailAnswers)
}
