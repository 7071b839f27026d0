package session

import (
	"time"

	api "github.com/raftlock/raftlock/api/raftlock/v1"
)

// Metrics takes what is measured of this agent's own applications; what the
// words mean is telemetry's table. Its methods are called with the Host's mutex
// held, for every request and every beat: they must be quick and must not call
// back.
type Metrics interface {
	// Acquired: an acquire came out, and AcquireAnswered, Waited: how long that
	// took. The outcomes are the Outcome constants.
	Acquired(outcome string)
	// Answered: a request on a session's stream (acquire, release, set_ttl) had
	// its first answer, with a reason of the API; or nobody waits for it any more.
	Answered(request, reason string, took time.Duration)
	AcquireAnswered(outcome string, took time.Duration)
	Waited(outcome string, took time.Duration)
	// Released: a hold ended, and HeldFor: how long it was held. How it ended is
	// one of the How constants.
	Released(how string)
	HeldFor(how string, took time.Duration)
	// Renewed: so many sessions that hold had their V moved at once.
	Renewed(sessions int)
	BeatAnswered(took time.Duration)
}

// Outcomes of an acquire.
const (
	OutcomeGranted   = "granted"
	OutcomeHeld      = "held"
	OutcomeQueued    = "queued" // of AcquireAnswered alone
	OutcomeCancelled = "cancelled"
	OutcomeRefused   = "refused"
	OutcomeEnded     = "ended"
	OutcomeError     = "error"
)

// How a hold ends.
const (
	HowReleased     = "released"
	HowLost         = "lost"
	HowRevoked      = "revoked"
	HowSessionEnded = "session_ended"
)

// noMetrics is what a Host without Metrics tells.
type noMetrics struct{}

func (noMetrics) Acquired(string)                       {}
func (noMetrics) Answered(_, _ string, _ time.Duration) {}
func (noMetrics) AcquireAnswered(string, time.Duration) {}
func (noMetrics) Waited(string, time.Duration)          {}
func (noMetrics) Released(string)                       {}
func (noMetrics) HeldFor(string, time.Duration)         {}
func (noMetrics) Renewed(int)                           {}
func (noMetrics) BeatAnswered(time.Duration)            {}

// measured is what of a request was measured: each thing once, however often it
// is repeated. Times are 0 where another start of this agent saw them.
type measured struct {
	asked, queued, granted time.Duration
	answered               bool
	out                    bool // it came out, granted or not
	ended                  bool // its hold ended
}

// measureAsked begins to measure a request that the application just made.
func (h *Host) measureAsked(e *entry) { e.measured.asked = h.cfg.Clock() }

// measureAnswered notes its first answer.
func (h *Host) measureAnswered(e *entry, why api.Reason) {
	m := &e.measured
	if m.answered || m.asked == 0 {
		return
	}
	m.answered = true
	h.cfg.Metrics.Answered(requestOf(e.cmd), word(why), h.cfg.Clock()-m.asked)
}

// measureQueued notes that it waits.
func (h *Host) measureQueued(e *entry) {
	m := &e.measured
	if m.asked == 0 || m.queued != 0 {
		return
	}
	m.queued = h.cfg.Clock()
	h.measureAnswered(e, api.Reason_REASON_OK)
	h.cfg.Metrics.AcquireAnswered(OutcomeQueued, m.queued-m.asked)
}

// measureGranted notes that the application is told that it holds.
func (h *Host) measureGranted(e *entry) {
	e.measured.granted = h.cfg.Clock()
	h.measureAnswered(e, api.Reason_REASON_OK)
	h.measureOut(e, OutcomeGranted)
}

// measureOut notes how an acquire came out, if that is not known yet.
func (h *Host) measureOut(e *entry, outcome string) {
	m := &e.measured
	if m.out || !e.acquire {
		return
	}
	m.out = true
	h.cfg.Metrics.Acquired(outcome)
	switch {
	case m.queued != 0:
		h.cfg.Metrics.Waited(waited(outcome), h.cfg.Clock()-m.queued)
	case m.asked != 0:
		h.cfg.Metrics.AcquireAnswered(outcome, h.cfg.Clock()-m.asked)
	}
}

// waited: who was in the queue can neither be told HELD nor be refused, but by
// what should not happen.
func waited(outcome string) string {
	switch outcome {
	case OutcomeGranted, OutcomeCancelled, OutcomeEnded:
		return outcome
	}
	return OutcomeError
}

// measureEnd notes that e is no more: how its hold ended if it was told as
// held, else how its acquire came out.
func (h *Host) measureEnd(e *entry, how, outcome string) {
	if e == nil || !e.acquire {
		return
	}
	if !e.reported {
		if why, ok := unansweredAs[outcome]; ok {
			h.measureAnswered(e, why)
		}
		h.measureOut(e, outcome)
		return
	}
	m := &e.measured
	if m.ended {
		return
	}
	m.ended = true
	h.cfg.Metrics.Released(how)
	if m.granted != 0 {
		h.cfg.Metrics.HeldFor(how, h.cfg.Clock()-m.granted)
	}
}

// unansweredAs is what ended a request that never had an answer: nobody waits for
// one any more, and it was a request all the same.
var unansweredAs = map[string]api.Reason{
	OutcomeCancelled: api.Reason_REASON_CANCELLED,
	OutcomeEnded:     api.Reason_REASON_SESSION_ENDED,
}

// measureGone is measureEnd by the cluster's word.
func (h *Host) measureGone(e *entry, why api.Reason) {
	h.measureAnswered(e, why)
	how := HowReleased
	switch {
	case why == api.Reason_REASON_LOST:
		how = HowLost
	case why == api.Reason_REASON_REVOKED || e.revoked && why != api.Reason_REASON_RELEASED:
		how = HowRevoked
	case why == api.Reason_REASON_SESSION_ENDED, why == api.Reason_REASON_EXPIRED:
		how = HowSessionEnded
	}
	h.measureEnd(e, how, outcomeOf(why))
}

// measureDropped is measureEnd of all that a session has when it is forgotten.
// One that moved to another agent goes on there.
func (h *Host) measureDropped(s *session, why api.Reason) {
	if why == api.Reason_REASON_SUPERSEDED {
		return
	}
	for _, e := range s.entries {
		h.measureEnd(e, HowSessionEnded, OutcomeEnded)
	}
}

func outcomeOf(why api.Reason) string {
	switch why {
	case api.Reason_REASON_HELD:
		return OutcomeHeld
	case api.Reason_REASON_CANCELLED, api.Reason_REASON_RELEASED, api.Reason_REASON_USED_UP:
		return OutcomeCancelled
	case api.Reason_REASON_INVALID, api.Reason_REASON_LIMIT, api.Reason_REASON_QUEUE_FULL,
		api.Reason_REASON_DENIED, api.Reason_REASON_RATE_LIMITED:
		return OutcomeRefused
	case api.Reason_REASON_SESSION_ENDED, api.Reason_REASON_EXPIRED:
		return OutcomeEnded
	}
	return OutcomeError
}

// holds reports that a beat's answer renews something of s: a revoked hold's V
// stands still.
func (s *session) holds() bool {
	for _, e := range s.entries {
		if e.reported && !e.lost && !e.revoked {
			return true
		}
	}
	return false
}

// Census is how much there is at an agent now.
type Census struct {
	// Sessions that are attached here; the acquires that wait in a queue, plain
	// ones too; and the holds that applications may believe in, plain ones where
	// they were last acquired or renewed.
	Sessions, Waits, Holds int
}

// Census counts. It looks at every session: for scrapes, not for requests.
func (h *Host) Census() Census {
	h.mu.Lock()
	defer h.mu.Unlock()
	var c Census
	now := h.cfg.Clock()
	for _, s := range h.sessions {
		if s.attachment != 0 {
			c.Sessions++
		}
		for _, e := range s.entries {
			switch {
			case e.reported && !e.lost && now < s.deadline(e):
				c.Holds++
			case e.acquire && !e.held && e.position > 0:
				c.Waits++
			}
		}
	}
	for x := range h.calls {
		if x.wait != nil && x.wait.queued != 0 {
			c.Waits++
		}
	}
	c.Holds += h.plain.count(now)
	return c
}
