package session

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/raftlock/raftlock/fsm"
	"github.com/raftlock/raftlock/fsm/command"
	"github.com/raftlock/raftlock/internal/mutant"
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
}

// cancelling is the cancel of a plain wait, until it was answered.
type cancelling struct {
	stop context.CancelFunc
	done chan struct{}
	// applied is set before done is closed.
	applied bool
}

// WaitOver is the error of a plain acquire with a request id whose context ended
// before its answer came. It wraps what ended it, which says whether the request
// may have been applied; its cancel is on the way.
type WaitOver struct {
	cause  error
	cancel *cancelling // nil: another caller waits under the same request id
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
	watch := &call{wait: w}
	if err := h.watchWait(watch); err != nil {
		return Reply{}, err
	}
	for {
		r, err := h.Ask(turn.within(ctx), &command.Command{Kind: &command.Command_PlainAcquire{PlainAcquire: a}})
		switch {
		case err == nil && !waits(r.Result):
			h.unwatch(watch)
			return r, nil
		case err == nil:
			w.waits = true
			h.measurePlainQueued(w)
			turn.met(r.said)
			turn.waits(a.Lock, r.Standings[0].Position)
		case w.waits && (errors.Is(err, ErrQueueFull) || errors.Is(err, ErrTooMany)):
			// It stands in the queue, and is asked about again.
		default:
			return Reply{}, h.giveUp(ctx, watch, err)
		}
		if err := h.rest(ctx, w); err != nil {
			return Reply{}, h.giveUp(ctx, watch, err)
		}
	}
}

// watchWait makes a wait known to stirs. It takes over what an earlier caller of
// the same request left: a cancel that is still on its way would end it too.
func (h *Host) watchWait(c *call) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.calls) >= callsMax {
		return ErrTooMany
	}
	h.calls[c] = struct{}{}
	if old := h.cancels[c.wait.key]; old != nil && !mutant.On("session-plain-again") {
		old.stop()
	}
	return nil
}

func (h *Host) unwatch(c *call) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.calls, c)
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
			select {
			case c.wait.stir <- struct{}{}:
			default:
			}
		}
	}
}

func waits(r *command.Result) bool {
	return r.Code == command.Code_CODE_OK && len(r.Standings) == 1 &&
		r.Standings[0].State == command.Standing_STATE_WAITING
}

// giveUp ends a wait's call. If its caller left it is cancelled, unless another
// caller waits under the same name.
func (h *Host) giveUp(ctx context.Context, c *call, err error) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.calls, c)
	w := c.wait
	if w.waits && !errors.Is(err, ErrUnknown) {
		err = errors.Join(ErrUnknown, err) // whatever became of the last asking
	}
	if w.ask.RequestId == "" || ctx.Err() == nil || h.closed {
		return err
	}
	for other := range h.calls {
		if other.wait != nil && other.wait.key == w.key && !mutant.On("session-plain-callers") {
			return &WaitOver{cause: err}
		}
	}
	return &WaitOver{cause: err, cancel: h.cancelPlain(w)}
}

// cancelPlain gives a plain wait up in the background. Its bound is the wait's
// own lease: past that the leader ends it anyway.
func (h *Host) cancelPlain(w *plainWait) *cancelling {
	if mutant.On("session-plain-cancel") {
		return nil // the wait's lease ends it
	}
	a := w.ask
	ctx, stop := context.WithTimeout(context.Background(), 2*time.Duration(a.TtlNanos))
	x := &cancelling{stop: stop, done: make(chan struct{})}
	h.cancels[w.key] = x
	h.waiting.Go(func() {
		defer stop()
		r, err := h.Propose(ctx, &command.Command{Kind: &command.Command_PlainCancel{PlainCancel: &command.PlainCancel{
			Owner: a.Owner, Lock: a.Lock, RequestId: a.RequestId,
		}}})
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.cancels[w.key] == x {
			delete(h.cancels, w.key)
		}
		x.applied = err == nil && (r.Code == command.Code_CODE_OK || r.Code == command.Code_CODE_NOT_WAITING)
		close(x.done)
		if err != nil && !errors.Is(ctx.Err(), context.Canceled) {
			h.say(slog.LevelWarn, "a plain wait's cancel was not answered; its lease ends it", "lock", a.Lock, "error", err)
		}
	})
	return x
}
