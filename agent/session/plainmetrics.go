package session

import (
	"context"
	"errors"
	"time"

	"github.com/raftlock/raftlock/fsm"
	"github.com/raftlock/raftlock/fsm/command"
	"github.com/raftlock/raftlock/lease"
)

// plainHolds are the plain holds that were last acquired or renewed here, for
// those who count. They belong to no session of this agent, and it is not told
// when they end elsewhere: each counts until its V, as it was told here, at the
// latest. The Host's mutex guards it.
type plainHolds struct {
	held    map[ID]plainHold
	sweepAt int
}

type plainHold struct {
	token   uint64
	v       time.Duration
	granted time.Duration // 0: elsewhere, or before this agent's start
}

// sweepMin is the number of plain holds below which nobody looks for those that
// are over; twice as many as were left, later. So there are never more than
// twice those that live.
const sweepMin = 1024

func (p *plainHolds) put(id ID, x plainHold, now time.Duration) {
	if p.held == nil {
		p.held, p.sweepAt = make(map[ID]plainHold), sweepMin
	}
	p.held[id] = x
	if len(p.held) >= p.sweepAt {
		p.sweepAt = max(sweepMin, 2*p.count(now))
	}
}

// count forgets those that are over, and returns how many are left.
func (p *plainHolds) count(now time.Duration) int {
	for id, x := range p.held {
		if now >= x.v {
			delete(p.held, id)
		}
	}
	return len(p.held)
}

// measurePlainQueued notes that a plain acquire waits.
func (h *Host) measurePlainQueued(w *plainWait) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if w.queued == 0 {
		w.queued = h.cfg.Clock()
		h.cfg.Metrics.AcquireAnswered(OutcomeQueued, w.queued-w.asked)
	}
}

// measurePlainAcquire notes how a plain acquire came out. One by the owner that
// holds already is a renewal.
func (h *Host) measurePlainAcquire(ctx context.Context, w *plainWait, r Reply, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := h.cfg.Clock()
	outcome := plainOutcome(ctx, r, err)
	if outcome == OutcomeGranted && !h.plainGranted(w.key.plain, r, now) {
		h.cfg.Metrics.Renewed(1)
		return
	}
	h.cfg.Metrics.Acquired(outcome)
	if w.queued != 0 {
		h.cfg.Metrics.Waited(waited(outcome), now-w.queued)
		return
	}
	h.cfg.Metrics.AcquireAnswered(outcome, now-w.asked)
}

func plainOutcome(ctx context.Context, r Reply, err error) string {
	switch {
	case errors.As(err, new(*WaitOver)), err != nil && errors.Is(ctx.Err(), context.Canceled):
		return OutcomeCancelled
	case errors.Is(err, ErrQueueFull), errors.Is(err, ErrTooMany):
		return OutcomeRefused
	case err != nil:
		return OutcomeError
	case r.Code != command.Code_CODE_OK:
		return outcomeOf(reason(r.Code))
	case len(r.Standings) == 1 && r.Standings[0].Revoked:
		return OutcomeRefused // nothing was renewed
	}
	return OutcomeGranted
}

// plainGranted notes a plain hold, and reports whether it is new. What was asked
// more than once may have been granted by an asking whose answer was lost.
func (h *Host) plainGranted(id ID, r Reply, now time.Duration) bool {
	token := r.Standings[0].Token
	known, have := h.plain.held[id]
	have = have && known.token == token
	x := plainHold{token: token, v: lease.HolderDeadline(r.Sent, time.Duration(r.TtlNanos))}
	fresh := !have && (!r.Renewed || r.Repeated)
	switch {
	case fresh:
		x.granted = now
	case have:
		x.granted = known.granted
	}
	h.plain.put(id, x, now)
	return fresh
}

// measurePlain notes what other plain requests did.
func (h *Host) measurePlain(c *command.Command, r Reply) {
	switch k := c.Kind.(type) {
	case *command.Command_PlainRenew:
		if r.Code == command.Code_CODE_OK && len(r.Standings) == 1 && !r.Standings[0].Revoked {
			h.measurePlainRenewed(fsm.PlainID(k.PlainRenew.Owner, k.PlainRenew.Lock), r)
		}
	case *command.Command_PlainRelease:
		// Answered that it holds no more, a repeated one was applied before.
		again := r.Repeated && r.Code == command.Code_CODE_NOT_HELD
		if r.Code == command.Code_CODE_OK || again {
			h.measurePlainReleased(fsm.PlainID(k.PlainRelease.Owner, k.PlainRelease.Lock), k.PlainRelease.Token)
		}
	}
}

func (h *Host) measurePlainRenewed(id ID, r Reply) {
	h.mu.Lock()
	defer h.mu.Unlock()
	x := plainHold{token: r.Standings[0].Token, v: lease.HolderDeadline(r.Sent, time.Duration(r.TtlNanos))}
	if known, ok := h.plain.held[id]; ok && known.token == x.token {
		x.granted = known.granted
	}
	h.plain.put(id, x, h.cfg.Clock())
	h.cfg.Metrics.Renewed(1)
}

func (h *Host) measurePlainReleased(id ID, token uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.cfg.Metrics.Released(HowReleased)
	x, ok := h.plain.held[id]
	if !ok || x.token != token {
		return
	}
	delete(h.plain.held, id)
	if x.granted != 0 {
		h.cfg.Metrics.HeldFor(HowReleased, h.cfg.Clock()-x.granted)
	}
}
