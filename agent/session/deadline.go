package session

import (
	"time"

	api "github.com/raftlock/raftlock/api/raftlock/v1"
	"github.com/raftlock/raftlock/fsm/command"
	"github.com/raftlock/raftlock/internal/mutant"
	"github.com/raftlock/raftlock/lease"
	"github.com/raftlock/raftlock/telemetry/tracing"
)

// look judges by V: what was reported as held and is past its deadline is
// lost, for good. Everything that reads or moves a V passes here first. It
// returns how long the earliest deadline is away, if anything is held.
func (h *Host) look(s *session, now time.Duration) (left time.Duration, held bool) {
	lost := 0
	for _, e := range s.entries {
		if !e.reported || e.lost {
			continue
		}
		v := s.deadline(e)
		if now >= v && !mutant.On("session-look") {
			h.lose(s, e)
			lost++
			continue
		}
		if !held || v-now < left {
			left, held = v-now, true
		}
	}
	if lost > 0 {
		h.sayLost(s, lost)
	}
	return left, held
}

// deadline is V of one of the session's holds.
func (s *session) deadline(e *entry) time.Duration {
	v := s.v
	if e.revoked {
		v = min(v, e.frozen)
	}
	if e.listed && !mutant.On("session-claimed") {
		v = max(v, s.claimed) // what it may still believe, from before the restart
	}
	return v
}

// lose tells the application that it holds no longer, and gives the hold back.
// A new acquire of the lock is a new handle.
func (h *Host) lose(s *session, e *entry) {
	e.lost = true
	h.measureEnd(e, HowLost, OutcomeError)
	s.tell(&api.Standing{Seq: e.seq, State: api.Standing_STATE_GONE, Lock: e.lock, Token: e.token, Reason: api.Reason_REASON_LOST})
	if mutant.On("session-lost-release") {
		return
	}
	h.chore(s, choreKey{kind: choreRelease, seq: e.seq, token: e.token}, &command.Command{
		Kind: &command.Command_Release{Release: &command.Release{Hold: e.seq, Token: e.token, Lost: true}},
	})
}

// renewed moves V by the answer to a beat that spoke for s, and reports whether
// that renewed a hold.
func (h *Host) renewed(s *session, b beat, now time.Duration) bool {
	was := s.v
	if s.grow != 0 && b.number > s.growAfter {
		h.reckon(s, s.grow)
		s.grow = 0
	}
	h.moveV(s, lease.HolderDeadline(b.sent, s.ttl), now)
	return s.v > was && s.holds()
}

// moveV is the only place where V goes forward.
func (h *Host) moveV(s *session, v, now time.Duration) {
	if !mutant.On("session-v-back") {
		h.look(s, now)
	}
	if v <= s.v {
		return
	}
	s.v = v
	if s.stream != nil && s.attaching == nil {
		s.stream.send(&api.SessionResponse{Response: &api.SessionResponse_Lease{Lease: &api.Lease{
			DeadlineNanos: uint64(v), ClockNanos: uint64(now),
		}}})
	}
	for _, seq := range s.sequences() {
		h.report(s, s.entries[seq], now)
	}
}

// shorten lowers V before a smaller TTL is asked for.
func (h *Host) shorten(s *session, ttl, now time.Duration) {
	h.look(s, now)
	if s.grow > ttl && !mutant.On("session-ttl-grow") {
		s.grow = 0 // its answer says what to grow to
	}
	if ttl >= s.ttl || mutant.On("session-ttl-first") {
		return
	}
	v := lease.HolderDeadline(now, ttl)
	s.v, s.attachV = min(s.v, v), min(s.attachV, v)
	h.reckon(s, ttl)
	for _, e := range s.entries {
		e.frozen = min(e.frozen, v) // a new leader reckons with the new TTL
	}
	h.cfg.Wake() // beats are due sooner
}

// report tells the application of a hold when V is well ahead; with little
// left it renews first, and a later moveV comes here again.
func (h *Host) report(s *session, e *entry, now time.Duration) {
	if !e.held || e.reported || e.lost || s.attaching != nil || s.unbound {
		return
	}
	if s.v-now <= s.ttl/aheadFraction && !mutant.On("session-report-early") {
		h.urgent = true
		h.cfg.Wake()
		e.spans.noted(tracing.EventRenewing)
		return
	}
	if e.revoked {
		return // its leader takes it back; it was never ours to report
	}
	e.reported = true
	h.measureGranted(e)
	h.sayHold(s, e, e.spans, "granted")
	e.spans.over(tracing.OutcomeHeld, "", e.token)
	e.spans = nil
	st := &api.Standing{
		Seq: e.seq, State: api.Standing_STATE_HELD, Lock: e.lock, Token: e.token, DeadlineNanos: uint64(s.v),
	}
	if e.answered {
		s.tell(st)
		return
	}
	e.answered = true
	s.answer(&api.Answer{Seq: e.seq, Reason: api.Reason_REASON_OK, Standing: st})
}

// revoke freezes a hold's V: from now on the session is renewed but not it.
func (h *Host) revoke(s *session, e *entry, now time.Duration) {
	if e.revoked {
		return
	}
	h.look(s, now)
	e.revoked, e.frozen = true, s.v
	if mutant.On("session-revoke-freeze") {
		e.frozen = 1 << 62
	}
	h.sayRevoked(s, e)
	if e.reported && !e.lost {
		s.tell(standingOf(s, e, &command.Standing{State: command.Standing_STATE_HELD, Token: e.token}))
	}
}
