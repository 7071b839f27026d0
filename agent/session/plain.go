package session

import (
	"context"
	"errors"
	"time"

	"github.com/raftlock/raftlock/fsm"
	"github.com/raftlock/raftlock/fsm/command"
	"github.com/raftlock/raftlock/internal/mutant"
	"github.com/raftlock/raftlock/lease"
)

// waitKey names one request of a plain session.
type waitKey struct {
	plain   ID
	request string
}

// plainWait is one caller's wait. Several callers may wait under one name: a
// request that was repeated before its first caller was given up.
type plainWait struct {
	key  waitKey
	ask  *command.PlainAcquire
	stir chan struct{} // capacity 1
	// waits: it was answered that it waits; the call's own goroutine's.
	waits bool
	// asked and queued are when, for who measures; queued is the Host's mutex's.
	asked, queued time.Duration
	name          *asking // what ask is called in the log; nil: it does not wait
}

// WaitOver is the error of a plain acquire with a request id whose context ended
// before its answer came. It wraps what ended it, which says whether the request
// may have been applied; its cancel is on the way.
type WaitOver struct {
	cause  error
	cancel *cancelling // nil: there was nothing to cancel, or it is another caller's too
}

// Error implements error.
func (w *WaitOver) Error() string { return "the wait was given up: " + w.cause.Error() }

// Unwrap gives the cause.
func (w *WaitOver) Unwrap() error { return w.cause }

// Cancelled waits until the cancel was applied: true, nothing of the request is
// left. False: ctx ended first, or the wait goes on for somebody else; the
// outcome is unknown.
func (w *WaitOver) Cancelled(ctx context.Context) bool {
	if w.cancel == nil {
		return false
	}
	select {
	case <-w.cancel.done:
		return w.cancel.applied
	case <-ctx.Done():
		return false
	}
}

// PlainAcquire acquires for a caller without a session (design section 6). With
// a request id it waits until ctx ends, keeps the wait alive meanwhile, and
// cancels it when ctx ends, returning a *WaitOver; the cancel is sent once more
// by every later link until it is applied, for as long as the wait's lease could
// live. When the Host closes nothing is cancelled: the same request keeps its
// place at another agent for a TTL.
func (h *Host) PlainAcquire(ctx context.Context, a *command.PlainAcquire) (Reply, error) {
	turn := h.within(ctx)
	turn.about(a)
	r, err := h.plainAcquire(ctx, a, turn)
	turn.settled(r.Result, err)
	return r, err
}

func (h *Host) plainAcquire(ctx context.Context, a *command.PlainAcquire, turn *spans) (out Reply, err error) {
	w := &plainWait{
		key: waitKey{fsm.PlainID(a.Owner, a.Lock), a.RequestId}, ask: a, stir: make(chan struct{}, 1), asked: h.cfg.Clock(),
	}
	defer func() { h.measurePlainAcquire(ctx, w, out, err) }()
	if no := invalid(&command.Command{Kind: &command.Command_PlainAcquire{PlainAcquire: a}}); no != nil {
		return Reply{Result: no}, nil // by its caller's name for it, which the log does not see
	}
	watch := &call{wait: w}
	if err := h.watchWait(watch); err != nil {
		return Reply{}, err
	}
	for {
		r, err := h.Ask(turn.within(ctx), &command.Command{Kind: &command.Command_PlainAcquire{PlainAcquire: w.ask}})
		switch {
		case err == nil && waits(r.Result):
			w.waits = true
			h.measurePlainQueued(w)
			turn.met(r.said)
			turn.waits(a.Lock, r.Standings[0].Position)
		case err == nil && h.late(r) && !mutant.On("session-plain-late"):
			h.again(w)
			continue // renewed at once; meanwhile nobody is told
		case err == nil:
			h.unwatch(watch, r.Code == command.Code_CODE_OK)
			return r, nil
		case w.waits && (errors.Is(err, ErrQueueFull) || errors.Is(err, ErrTooMany)):
			// It stands in the queue, and is asked about again.
		default:
			return Reply{}, h.giveUp(ctx, watch, err)
		}
		h.again(w)
		if err := h.rest(ctx, w); err != nil {
			return Reply{}, h.giveUp(ctx, watch, err)
		}
	}
}

// watchWait makes a wait known to stirs, and names it.
func (h *Host) watchWait(c *call) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.load() >= callsMax {
		return ErrTooMany
	}
	h.calls[c] = struct{}{}
	h.name(c.wait)
	return nil
}

// again notes that a wait asks once more.
func (h *Host) again(w *plainWait) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if w.name != nil {
		w.name.sent = true
	}
	h.name(w)
}

// unwatch ends a wait that was answered: told, that it holds.
func (h *Host) unwatch(c *call, told bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.calls, c)
	if n := c.wait.name; n != nil {
		n.told = n.told || told
	}
	h.leaveName(c.wait)
}

// late reports that a hold was answered with too little of its TTL left for a
// caller to use. Of a revoked one nothing is renewed.
func (h *Host) late(r Reply) bool {
	if r.Code != command.Code_CODE_OK || len(r.Standings) != 1 || r.Standings[0].Revoked {
		return false
	}
	ttl := time.Duration(r.TtlNanos)
	return lease.HolderDeadline(r.Sent, ttl)-h.cfg.Clock() < ttl/aheadFraction
}

// rest waits until it is time to ask again: when something changed in the plain
// session, or before the wait's lease runs out.
func (h *Host) rest(ctx context.Context, w *plainWait) error {
	again := time.NewTimer(max(time.Duration(w.ask.TtlNanos)/staleFraction, time.Millisecond))
	defer again.Stop()
	select {
	case <-w.stir:
		return nil
	case <-again.C:
		return nil
	case <-h.gone:
		return errors.Join(ErrUnknown, ErrClosed)
	case <-ctx.Done():
		return errors.Join(ErrUnknown, ctx.Err())
	}
}

// stirred wakes the plain waits of one plain session.
func (h *Host) stirred(id ID) {
	for c := range h.calls {
		if c.wait != nil && c.wait.key.plain == id {
			c.wait.stirred()
		}
	}
}

func (w *plainWait) stirred() {
	select {
	case w.stir <- struct{}{}:
	default:
	}
}

func waits(r *command.Result) bool {
	return r.Code == command.Code_CODE_OK && len(r.Standings) == 1 &&
		r.Standings[0].State == command.Standing_STATE_WAITING
}
