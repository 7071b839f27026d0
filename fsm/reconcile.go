package fsm

import (
	"github.com/raftlock/raftlock/fsm/command"
	"github.com/raftlock/raftlock/internal/mutant"
)

// reconcile makes the state agree with what its maker believes, and answers
// what became of the rest (design section 7). It is judged now, when it is
// applied: what was granted after the list was made lies at or above next.
func (s *State) reconcile(x *session, r *command.Reconcile) *command.Result {
	leave := s.unnamed(x, r)
	// Waits first: none of them may be granted what the same command frees.
	for _, kind := range []useKind{useWait, useHold} {
		for _, u := range leave {
			if u.kind == kind {
				s.lose(x, u, command.Gone_GONE_UNNAMED, command.EndReason_END_REASON_CLOSED)
			}
		}
	}
	return s.reconciled(x, r)
}

// unnamed are the claims below next that the maker does not believe in: not
// named, or named with a token that is not theirs. The latter comes only after
// a recovery from an old backup; keeping it would hold a lock for nobody.
func (s *State) unnamed(x *session, r *command.Reconcile) []*use {
	var leave []*use
	named := r.Named
	s.usesOf(x.id, 0, func(u *use) bool {
		if u.seq >= r.Next && !mutant.On("fsm-reconcile-next") {
			return false
		}
		for len(named) > 0 && named[0].GetSeq() < u.seq {
			named = named[1:]
		}
		if u.claim() && !believed(u, named) && !mutant.On("fsm-reconcile-unnamed") {
			leave = append(leave, u)
		}
		return true
	})
	return leave
}

// believed says whether the list's head speaks for u.
func believed(u *use, named []*command.Belief) bool {
	if len(named) == 0 || named[0].GetSeq() != u.seq {
		return false
	}
	t := named[0].GetToken()
	return t == 0 || t == u.token
}

// reconciled answers the named sequences from the state.
func (s *State) reconciled(x *session, r *command.Reconcile) *command.Result {
	out := ok()
	for _, b := range r.Named {
		u := s.use(x.id, b.GetSeq())
		if u != nil && u.kind == useAnswered {
			out.Answered = append(out.Answered, &command.Answered{Seq: u.seq, Result: answerResult(x, u.more.answer)})
			continue
		}
		st := s.standingOf(x, b.GetSeq())
		if st.State == command.Standing_STATE_UNSEEN && b.GetToken() != 0 {
			// It was granted once, in a history that a recovery cut off: it must
			// not be asked again behind its holder's back.
			st.State = command.Standing_STATE_GONE
		}
		out.Standings = append(out.Standings, st)
	}
	return out
}

// Settled answers a Reconcile that would change nothing but acknowledgement, so
// that its leader need not log it. Nothing that concerns the session may be on
// its way into the log meanwhile. Of every other command it says no.
func (s *State) Settled(c *command.Command) (*command.Result, bool) {
	k, is := c.GetKind().(*command.Command_Reconcile)
	if !is || command.KindVersion(c) > s.version || command.Valid(c) != "" {
		return nil, false
	}
	x := s.session(ID(c.Session))
	if no := refuseAttached(x, c); no != nil {
		return no, true
	}
	if len(s.unnamed(x, k.Reconcile)) > 0 {
		return nil, false
	}
	return s.reconciled(x, k.Reconcile), true
}
