package raftlock

import (
	"fmt"
	"math"
	"time"

	raftlockv1 "github.com/raftlock/raftlock/api/raftlock/v1"
	"github.com/raftlock/raftlock/internal/mutant"
)

// take handles one response. An error means that the stream is of no more use.
func (s *Session) take(resp *raftlockv1.SessionResponse) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.cfg.clock()
	if s.err != nil {
		return s.err
	}
	// Look at the old V before anything new is believed.
	if !mutant.On("sdk-v-back") {
		s.sweep(now)
	}
	switch r := resp.Response.(type) {
	case *raftlockv1.SessionResponse_Attached:
		return s.attached(r.Attached, now)
	case *raftlockv1.SessionResponse_Answer:
		s.answered(r.Answer, now)
	case *raftlockv1.SessionResponse_Update:
		s.standing(r.Update.GetStanding(), now)
	case *raftlockv1.SessionResponse_Lease:
		s.leased(r.Lease, now)
	case *raftlockv1.SessionResponse_Reconciled:
		s.reconciled(r.Reconciled, now)
	case *raftlockv1.SessionResponse_Reach:
		s.reach = r.Reach.GetReason()
	case *raftlockv1.SessionResponse_Ended:
		s.finish(overFor(r.Ended.GetReason()))
		return s.err
	}
	return nil
}

// attached takes the answer to Open or Resume. Its deadline is the session's,
// not the holds': whether they were revoked meanwhile is not known before
// Reconciled.
func (s *Session) attached(a *raftlockv1.Attached, now time.Duration) error {
	if s.phase != phaseAttaching || a.GetSeq() != s.greeter {
		return nil
	}
	if a.GetReason() != raftlockv1.Reason_REASON_OK {
		return s.notAttached(a)
	}
	s.acks.add(s.greeter)
	s.attempt, s.downErr = 0, nil
	opening, first := !s.resume, !s.attachedOnce
	s.resume, s.attachedOnce = true, true
	s.bound = a.GetStreamBound()
	s.ttl.told(reading(a.GetTtlNanos()))
	if clock := reading(a.GetClockNanos()); clock < s.greeted || clock > now {
		err := fmt.Errorf("%w: asked at %v, answered at %v by the agent's, %v by ours", ErrClock, s.greeted, clock, now)
		if !first {
			s.finish(err)
			return err
		}
		s.refusal = err
	}
	s.v = max(s.v, s.believed(a.GetDeadlineNanos()))
	if first {
		close(s.opened)
	}
	if opening {
		s.flush()
		return nil
	}
	s.phase = phaseReconciling
	s.out = []parcel{{msg: s.reconcile()}}
	nudge(s.wake)
	return nil
}

// notAttached sorts refusals: what time may mend is tried again on a new
// stream, the rest is final.
func (s *Session) notAttached(a *raftlockv1.Attached) error {
	err := refused(a.GetReason(), a.GetDetail())
	switch a.GetReason() {
	case raftlockv1.Reason_REASON_EXISTS, raftlockv1.Reason_REASON_SUPERSEDED, raftlockv1.Reason_REASON_USED_UP:
		if !s.resume {
			// Ours, but for a stream or agent that is gone.
			s.resume = true
			return err
		}
	case raftlockv1.Reason_REASON_NO_LEADER, raftlockv1.Reason_REASON_NO_QUORUM,
		raftlockv1.Reason_REASON_QUEUE_FULL, raftlockv1.Reason_REASON_RATE_LIMITED,
		raftlockv1.Reason_REASON_UNSPECIFIED:
		return err
	}
	s.finish(err)
	return err
}

// answered takes the answer to one sequence, and a repeated one.
func (s *Session) answered(a *raftlockv1.Answer, now time.Duration) {
	c := s.calls[a.GetSeq()]
	switch {
	case c == nil:
		s.late(a, now)
	case c.acquire:
		s.answeredAcquire(c, a, now)
	case c.lock != nil:
		s.answeredRelease(c, a)
	default:
		s.answeredTTL(c, a)
	}
}

// late takes an answer that nobody waits for: of a cancelled acquire, or a
// repetition, whose standing still says the newest.
func (s *Session) late(a *raftlockv1.Answer, now time.Duration) {
	if d := s.owed[a.GetSeq()]; d != nil && d.unanswered {
		d.unanswered = false
		s.acks.add(d.seq)
	}
	if a.GetStanding() != nil {
		s.standing(a.GetStanding(), now)
	}
}

func (s *Session) answeredAcquire(c *call, a *raftlockv1.Answer, now time.Duration) {
	st := a.GetStanding()
	told := st.GetSeq() == c.seq && st.GetState() != raftlockv1.Standing_STATE_UNSPECIFIED
	if told && a.GetReason() == raftlockv1.Reason_REASON_OK {
		s.standing(st, now)
		return
	}
	err := &Error{Reason: a.GetReason(), Detail: a.GetDetail(), Applied: AppliedNo}
	if a.GetUnknown() {
		err.Applied = AppliedUnknown
	}
	s.settle(c, err)
	s.fail(c.lock, err)
	refusal := a.GetReason() != raftlockv1.Reason_REASON_OK && a.GetReason() != raftlockv1.Reason_REASON_UNSPECIFIED
	if a.GetUnknown() || !refusal || told && st.GetState() != raftlockv1.Standing_STATE_GONE {
		s.owe(&debt{seq: c.seq})
	}
}

// answeredRelease ends an Unlock. An answer that leaves the hold's fate open
// turns the release into a debt, which is repeated until it is known.
func (s *Session) answeredRelease(c *call, a *raftlockv1.Answer) {
	l := c.lock
	var err error
	switch a.GetReason() {
	case raftlockv1.Reason_REASON_OK, raftlockv1.Reason_REASON_RELEASED:
	case raftlockv1.Reason_REASON_NOT_HELD, raftlockv1.Reason_REASON_NOT_FOUND,
		raftlockv1.Reason_REASON_NOT_OWNER, raftlockv1.Reason_REASON_STALE_TOKEN,
		raftlockv1.Reason_REASON_LOST, raftlockv1.Reason_REASON_REVOKED,
		raftlockv1.Reason_REASON_EXPIRED, raftlockv1.Reason_REASON_CANCELLED:
		// Gone before. If it went as released, some repetition of ours did it.
		if l.gone != raftlockv1.Reason_REASON_RELEASED {
			err = lostFor(l.gone, "before it was unlocked")
		}
	default:
		err = &Error{Reason: a.GetReason(), Detail: a.GetDetail(), Applied: AppliedUnknown}
		if l.gone == raftlockv1.Reason_REASON_UNSPECIFIED {
			s.owe(&debt{seq: l.seq, token: l.token})
		}
	}
	s.settle(c, err)
	s.over(l, err)
}

// standing takes what the agent says of one acquire. It may be told twice.
func (s *Session) standing(st *raftlockv1.Standing, now time.Duration) {
	seq := st.GetSeq()
	if s.owed[seq] != nil {
		// Held or waiting: it is being given back.
		if st.GetState() == raftlockv1.Standing_STATE_GONE {
			s.paid(seq)
		}
		return
	}
	l := s.locks[seq]
	if l == nil {
		s.stray(st)
		return
	}
	switch st.GetState() {
	case raftlockv1.Standing_STATE_WAITING:
		s.waits(l)
	case raftlockv1.Standing_STATE_HELD:
		s.holds(l, st, now)
	case raftlockv1.Standing_STATE_GONE:
		s.went(l, st)
	}
}

// stray: nobody here wants what the cluster has under this sequence.
func (s *Session) stray(st *raftlockv1.Standing) {
	alive := st.GetState() == raftlockv1.Standing_STATE_WAITING || st.GetState() == raftlockv1.Standing_STATE_HELD
	if alive && st.GetSeq() <= s.seq {
		s.owe(&debt{seq: st.GetSeq()})
	}
}

func (s *Session) waits(l *Lock) {
	if l.state != lockAsked {
		return
	}
	l.state = lockWaiting
	if c := s.calls[l.seq]; c != nil {
		s.settle(c, nil)
	}
}

// holds takes a grant, or news of a hold. A hold's deadline is the one told for
// itself; news of it moves it forward unless it is revoked.
func (s *Session) holds(l *Lock, st *raftlockv1.Standing, now time.Duration) {
	told := s.believed(st.GetDeadlineNanos())
	switch l.state {
	case lockAsked, lockWaiting:
		s.granted(l, st.GetToken(), told, now)
	case lockHeld:
		if st.GetToken() != l.token {
			s.lose(l, lostFor(raftlockv1.Reason_REASON_STALE_TOKEN, "the agent names another token"))
			s.owe(&debt{seq: l.seq})
			return
		}
		if !st.GetRevoked() && !l.frozen {
			l.deadline = max(l.deadline, told)
		}
	}
	l.stream = s.stream
	if st.GetRevoked() && l.state == lockHeld {
		if told != 0 {
			l.deadline = min(l.deadline, told)
		}
		l.freeze()
		s.expect(l.deadline)
	}
}

func (s *Session) granted(l *Lock, token uint64, deadline, now time.Duration) {
	if c := s.calls[l.seq]; c != nil {
		s.settle(c, nil)
	}
	l.state, l.token, l.deadline = lockHeld, token, deadline
	// A grant that reaches us past its V was never held as far as the caller
	// can tell; it is given back like any other.
	s.expect(deadline)
	s.sweep(now)
	if l.state == lockHeld {
		close(l.ready)
	}
}

// went: the cluster has nothing under this sequence any more.
func (s *Session) went(l *Lock, st *raftlockv1.Standing) {
	l.gone = st.GetReason()
	if l.gone == raftlockv1.Reason_REASON_UNSPECIFIED {
		l.gone = raftlockv1.Reason_REASON_LOST
	}
	switch l.state {
	case lockAsked, lockWaiting:
		err := refused(l.gone, "")
		if c := s.calls[l.seq]; c != nil {
			s.settle(c, err)
		}
		s.fail(l, err)
	case lockHeld:
		s.lose(l, lostFor(l.gone, ""))
	}
}

// leased moves V of the session, and of the holds that this stream has spoken
// of: what became of the others while no stream was there is not known yet.
func (s *Session) leased(lease *raftlockv1.Lease, now time.Duration) {
	if reading(lease.GetClockNanos()) > now {
		return // not our clock: nothing can be made of it
	}
	told := s.believed(lease.GetDeadlineNanos())
	s.v = max(s.v, told)
	for _, l := range s.locks {
		if l.state == lockHeld && l.stream == s.stream && !l.frozen {
			l.deadline = max(l.deadline, told)
		}
	}
}

// reconciled takes what the cluster has of what was named. What it does not
// mention is not there.
func (s *Session) reconciled(r *raftlockv1.Reconciled, now time.Duration) {
	if s.phase != phaseReconciling {
		return
	}
	mentioned := map[uint64]bool{}
	for _, st := range r.GetStandings() {
		mentioned[st.GetSeq()] = true
		s.standing(st, now)
	}
	for _, a := range r.GetAnswers() {
		s.answered(a, now)
	}
	for seq := range s.named {
		if l := s.locks[seq]; l != nil && !mentioned[seq] {
			s.missing(l)
		}
	}
	for seq, d := range s.owed {
		// A lost hold that was not named is released by the reconcile itself. A
		// cancel stays: its acquire may still be on its way.
		if d.token != 0 && !s.named[seq] && !mentioned[seq] {
			s.paid(seq)
		}
	}
	s.flush()
}

// missing: a hold or wait that was named and not mentioned.
func (s *Session) missing(l *Lock) {
	switch l.state {
	case lockWaiting:
		s.fail(l, refused(raftlockv1.Reason_REASON_NOT_WAITING, "the cluster does not know the wait"))
		s.owe(&debt{seq: l.seq})
	case lockHeld:
		s.loseAndGiveBack(l, lostFor(raftlockv1.Reason_REASON_NOT_HELD, "the cluster does not know the hold"))
	}
}

// reading converts a clock reading or a span; one that does not fit is the
// greatest.
func reading(nanos uint64) time.Duration {
	return time.Duration(min(nanos, math.MaxInt64))
}
