package raftlock

import (
	"context"
	"time"

	raftlockv1 "github.com/raftlock/raftlock/api/raftlock/v1"
	"github.com/raftlock/raftlock/internal/mutant"
)

// ttls is every TTL that may be in force: the one last told, the one asked for,
// and those asked for whose outcome is unknown. 0: none.
type ttls struct {
	current, asked, doubtLow, doubtHigh time.Duration
	// sure is a V that holds whichever of them is in force: the asking's time
	// and the holder's share of what was asked for. The leader reckons from
	// when it applied the change, which was later.
	sure time.Duration
}

// low is the least that may be in force.
func (t *ttls) low() time.Duration {
	low := t.current
	for _, d := range []time.Duration{t.asked, t.doubtLow} {
		if d != 0 {
			low = min(low, d)
		}
	}
	return low
}

// high is the greatest that a deadline may be made of. One that is asked for is
// not used before its answer.
func (t *ttls) high() time.Duration { return max(t.current, t.doubtHigh) }

// told takes the TTL in force from an answer that came after all doubtful ones.
func (t *ttls) told(ttl time.Duration) {
	if ttl != 0 {
		t.current = ttl
	}
	t.doubtLow, t.doubtHigh, t.sure = 0, 0, 0
}

// ask notes that another TTL is asked for now.
func (t *ttls) ask(ttl, now time.Duration) {
	t.asked = ttl
	sure := now + holdersShare(ttl)
	if t.doubtLow == 0 || sure < t.sure {
		t.sure = sure
	}
}

func (t *ttls) doubt() {
	t.doubtHigh = max(t.doubtHigh, t.asked)
	if t.doubtLow == 0 || t.asked < t.doubtLow {
		t.doubtLow = t.asked
	}
}

// holdersShare is V's part of a TTL (design section 5).
func holdersShare(ttl time.Duration) time.Duration { return ttl / 100 * 98 }

// believed is the deadline that may be taken from one the agent told. While a
// smaller TTL is asked for, a deadline on its way may still be made of the
// larger, beyond what the leader promises; what could be too much is taken off.
func (s *Session) believed(nanos uint64) time.Duration {
	told := reading(nanos)
	excess := holdersShare(s.ttl.high() - s.ttl.low())
	if excess <= 0 || mutant.On("sdk-ttl-first") {
		return told
	}
	return max(told-excess, min(told, s.ttl.sure))
}

// SetTTL asks for another TTL and returns when it is in force. A smaller one
// counts for the deadlines here at once, whatever the answer; a larger one when
// the agent tells later deadlines. If ctx ends first the request goes on, and
// the error says AppliedUnknown. One SetTTL is under way at a time; others wait.
func (s *Session) SetTTL(ctx context.Context, ttl time.Duration) error {
	if s.forked() {
		return ErrForked
	}
	if ttl < TTLMin {
		return invalid("TTL %v is below %v", ttl, TTLMin)
	}
	c, err := s.askTTL(ctx, ttl)
	if err != nil {
		return err
	}
	select {
	case <-c.done:
		return c.err
	case <-ctx.Done():
		return s.givenUp("set TTL", AppliedUnknown, ctx.Err())
	}
}

// askTTL waits for its turn and sends.
func (s *Session) askTTL(ctx context.Context, ttl time.Duration) (*call, error) {
	for {
		c, busy, err := s.tryAskTTL(ctx, ttl)
		if err != nil || c != nil {
			return c, err
		}
		select {
		case <-busy.done:
		case <-ctx.Done():
		}
	}
}

func (s *Session) tryAskTTL(ctx context.Context, ttl time.Duration) (c, busy *call, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.cfg.clock()
	s.sweep(now)
	if err := s.refuses(); err != nil {
		return nil, nil, err
	}
	if ctx.Err() != nil {
		return nil, nil, s.givenUpLocked("set TTL", AppliedNo, ctx.Err())
	}
	if s.ttlCall != nil {
		return nil, s.ttlCall, nil
	}
	s.ttl.ask(ttl, now)
	if !mutant.On("sdk-ttl-first") {
		s.lower(now + holdersShare(ttl))
	}
	c = s.newCall(func(seq uint64) *request {
		return &request{Request: &raftlockv1.SessionRequest_SetTtl{
			SetTtl: &raftlockv1.SetTTL{Seq: seq, TtlNanos: uint64(ttl)}}}
	})
	s.ttlCall = c
	nudge(s.wake) // beats may be due sooner
	return c, nil, nil
}

// lower brings every V down to at most v.
func (s *Session) lower(v time.Duration) {
	s.v = min(s.v, v)
	for _, l := range s.locks {
		if l.state == lockHeld {
			l.deadline = min(l.deadline, v)
		}
	}
	s.expect(v)
}

func (s *Session) answeredTTL(c *call, a *raftlockv1.Answer) {
	var err error
	switch {
	case a.GetReason() == raftlockv1.Reason_REASON_OK:
		s.ttl.told(s.ttl.asked)
		s.ttl.told(reading(a.GetTtlNanos()))
	case a.GetUnknown():
		s.ttl.doubt()
		err = &Error{Reason: a.GetReason(), Detail: a.GetDetail(), Applied: AppliedUnknown}
	default:
		err = refused(a.GetReason(), a.GetDetail())
	}
	s.ttl.asked, s.ttlCall = 0, nil
	s.settle(c, err)
	nudge(s.wake)
}
