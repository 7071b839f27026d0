package session

import (
	"cmp"
	"slices"
	"time"

	api "github.com/raftlock/raftlock/api/raftlock/v1"
	"github.com/raftlock/raftlock/fsm/command"
	"github.com/raftlock/raftlock/internal/mutant"
	"github.com/raftlock/raftlock/telemetry/tracing"
)

// add begins a request, or finds that it is a repetition of one not finished.
func (h *Host) add(s *session, e *entry, t *api.Trace) {
	s.use(e.seq)
	old := s.entries[e.seq]
	if old == nil {
		e.spans = h.arrived(s, e, t)
		h.measureAsked(e)
	} else if old.spans == nil && !old.reported {
		old.spans = h.arrived(s, e, t) // an older start of this agent had it
	}
	if old != nil {
		// Asked again over a new stream. A known standing is answered from
		// what is believed; an unanswered request is sent again, which the
		// cluster answers with the answer of once.
		if old.cmd == nil {
			old.cmd = e.cmd
		}
		old.answered = old.reported
		if old.reported {
			st := standingOf(s, old, &command.Standing{State: command.Standing_STATE_HELD, Token: old.token})
			s.answer(&api.Answer{Seq: old.seq, Reason: api.Reason_REASON_OK, Standing: st})
			return
		}
		if old.way == nil || old.way != h.up {
			h.request(s, old) // else its answer is on its way
		}
		return
	}
	if len(s.entries) >= entriesMax {
		s.answer(&api.Answer{Seq: e.seq, Reason: api.Reason_REASON_LIMIT, Detail: "too many requests and holds in one session"})
		e.ends(api.Reason_REASON_LIMIT)
		h.measureGone(e, api.Reason_REASON_LIMIT)
		h.unchanged(s, e)
		return
	}
	s.entries[e.seq] = e
	h.request(s, e)
}

func (h *Host) acquire(s *session, q *api.Acquire, t *api.Trace) {
	if q.Seq == 0 {
		s.answer(&api.Answer{Reason: api.Reason_REASON_INVALID, Detail: "an acquire needs a sequence from 1"})
		return
	}
	if _, cancelled := s.chores[choreKey{kind: choreCancel, seq: q.Seq}]; cancelled {
		return // its cancel is on the way and answers for both
	}
	if s.entries[q.Seq] == nil { // else it is a repetition
		if later, ok := h.mayAsk(s.opener.peer.Identity()); !ok {
			s.use(q.Seq)
			s.answer(&api.Answer{Seq: q.Seq, Reason: api.Reason_REASON_RATE_LIMITED, Detail: TooMuch("requests of this user", later)})
			h.cfg.Metrics.Acquired(OutcomeRefused)
			return
		}
	}
	a := &command.Acquire{Lock: q.Lock, Try: q.Try, Priority: q.Priority}
	for k, v := range q.Metadata {
		a.Metadata = append(a.Metadata, &command.Pair{Key: k, Value: v})
	}
	slices.SortFunc(a.Metadata, func(x, y *command.Pair) int { return cmp.Compare(x.Key, y.Key) })
	c := &command.Command{Session: s.id[:], Seq: q.Seq, Kind: &command.Command_Acquire{Acquire: a}}
	if h.valid(s, c) {
		h.add(s, &entry{seq: q.Seq, acquire: true, lock: q.Lock, cmd: c}, t)
		return
	}
	h.cfg.Metrics.Acquired(OutcomeRefused)
}

// valid refuses what the state machine would, so that it never travels: a link
// cannot carry every string, and a TTL that cannot be had must shorten no V.
func (h *Host) valid(s *session, c *command.Command) bool {
	complaint := command.Valid(c)
	if complaint == "" {
		return true
	}
	s.use(c.Seq)
	s.answer(&api.Answer{Seq: c.Seq, Reason: api.Reason_REASON_INVALID, Detail: complaint})
	return false
}

// cancel undoes an acquire whatever became of it, and is kept until applied.
func (h *Host) cancel(s *session, target uint64) {
	if target == 0 {
		return
	}
	if len(s.chores) >= entriesMax {
		s.answer(&api.Answer{Seq: target, Reason: api.Reason_REASON_LIMIT, Detail: "too many cancels under way"})
		return
	}
	s.use(target)
	h.measureEnd(s.entries[target], HowReleased, OutcomeCancelled)
	s.forget(target)
	h.chore(s, choreKey{kind: choreCancel, seq: target}, &command.Command{
		Kind: &command.Command_Cancel{Cancel: &command.Cancel{Target: target}},
	})
}

func (h *Host) release(s *session, q *api.Release, t *api.Trace) {
	c := &command.Command{Seq: q.Seq, Kind: &command.Command_Release{Release: &command.Release{
		Hold: q.Hold, Token: q.Token, Lost: q.Lost,
	}}}
	if q.Seq == 0 {
		if e := s.entries[q.Hold]; e != nil && e.token == q.Token {
			e.lost = true
			h.measureEnd(e, HowLost, OutcomeError)
		}
		if len(s.chores) >= entriesMax {
			return // the application repeats it over its next stream
		}
		h.chore(s, choreKey{kind: choreRelease, seq: q.Hold, token: q.Token}, c)
		return
	}
	e := &entry{seq: q.Seq, cmd: c}
	if held := s.entries[q.Hold]; held != nil {
		e.lock = held.lock // for people
	}
	h.add(s, e, t)
}

// setTTL lowers V before a smaller TTL is asked for; a larger one counts for
// beats sent after its answer.
func (h *Host) setTTL(s *session, q *api.SetTTL, t *api.Trace, now time.Duration) {
	if q.Seq == 0 {
		s.answer(&api.Answer{Reason: api.Reason_REASON_INVALID, Detail: "a change of TTL needs a sequence from 1"})
		return
	}
	c := &command.Command{
		Session: s.id[:], Seq: q.Seq,
		Kind: &command.Command_SetTtl{SetTtl: &command.SetTTL{TtlNanos: q.TtlNanos}},
	}
	if !h.valid(s, c) {
		return
	}
	h.shorten(s, bounded(q.TtlNanos), now)
	h.add(s, &entry{seq: q.Seq, cmd: c}, t)
}

// reconcile makes the application's list this agent's, and asks the cluster.
// What the list does not name below its next is given up. False: no application
// that heeds its bounds has such a list, and a link might not carry it.
func (h *Host) reconcile(s *session, q *api.Reconcile) bool {
	if !s.canKeep(q) {
		return false
	}
	named := make(map[uint64]struct{}, len(q.Named))
	for _, b := range q.Named {
		named[b.Seq] = struct{}{}
		e := s.entries[b.Seq]
		if e == nil {
			e = &entry{seq: b.Seq, acquire: b.Lock != "", lock: b.Lock}
			s.entries[b.Seq] = e
		}
		if b.Token != 0 {
			e.listed = !e.reported
			e.held, e.reported, e.answered, e.token = true, true, true, b.Token
			e.spans.over(tracing.OutcomeHeld, "", b.Token)
		}
		s.use(b.Seq)
	}
	for seq, e := range s.entries {
		if _, ok := named[seq]; !ok && (seq < q.Next || mutant.On("session-app-next")) {
			h.measureEnd(e, HowReleased, OutcomeCancelled)
			s.forget(seq)
		}
	}
	s.next = max(s.next, q.Next)
	s.reconcile, s.listed = named, true
	s.lists++
	h.sync(s)
	return true
}

// canKeep reports whether what a list leaves of s fits one reconcile.
func (s *session) canKeep(q *api.Reconcile) bool {
	kept := make(map[uint64]struct{})
	for _, b := range q.Named {
		if len(b.Lock) > command.NameBytesMax {
			return false
		}
		kept[b.Seq] = struct{}{}
	}
	for seq, e := range s.entries {
		if seq >= q.Next || e.cmd.GetSetTtl() != nil {
			kept[seq] = struct{}{}
		}
	}
	return len(kept) <= entriesMax
}

// forget drops what the application wants no more. A change of TTL stays until
// it is answered: it may be applied yet, and until then nothing may be reckoned
// with the TTL from before it.
func (s *session) forget(seq uint64) {
	if e := s.entries[seq]; e == nil || e.cmd.GetSetTtl() == nil {
		s.remove(seq, tracing.OutcomeCancelled, api.Reason_REASON_CANCELLED)
	}
}

// unchanged brings the TTL in force back after a change of it that is surely
// not applied.
func (h *Host) unchanged(s *session, e *entry) {
	if e.cmd.GetSetTtl() != nil {
		h.takeTTL(s, s.inForce)
	}
}

// changing reports that a change of TTL is not answered yet.
func (s *session) changing() bool {
	for _, e := range s.entries {
		if e.cmd.GetSetTtl() != nil {
			return true
		}
	}
	return false
}
