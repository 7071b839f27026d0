package session

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/raftlock/raftlock/fsm/command"
	"github.com/raftlock/raftlock/internal/mutant"
)

// cancelsMax bounds the cancels of plain waits that await an answer. What is
// given up beyond it ends with its lease.
const cancelsMax = callsMax

// asking is what the log knows a waiting request by: a name of this start of the
// agent and of callers who overlap, whatever name they gave. A hold remembers
// who was told of it by these names, so the cancel of some takes nothing away
// that others were told: those of another agent, or of an earlier or later call.
// Once one of its callers was told that it holds, a name is used up: nobody
// cancels it, and who still asks by it takes a new one. The Host's mutex guards
// it.
type asking struct {
	key     waitKey
	id      string
	callers int
	sent    bool // something may be in the log by this name
	told    bool
	cancel  *cancelling // on its way; nil: none
}

// cancelling is the cancel of a plain wait, until it was answered.
type cancelling struct {
	name *asking
	call *call
	stop context.CancelFunc
	done chan struct{}
	// applied is set before done is closed.
	applied bool
}

// name gives a wait the name to ask by, unless it has one. It takes over what an
// earlier caller left: a cancel that is still on its way would end it too. The
// caller holds mu.
func (h *Host) name(w *plainWait) {
	if w.key.request == "" || w.name != nil && !w.name.told {
		return
	}
	if w.name != nil {
		w.name.callers--
	}
	n := h.askings[w.key]
	if n == nil {
		h.askingNo++
		n = &asking{key: w.key, id: fmt.Sprintf("%016x.%d", h.cfg.Incarnation, h.askingNo)}
		if mutant.On("session-plain-name") {
			n.id = w.key.request
		}
		h.askings[w.key] = n
	}
	n.callers++
	if n.cancel != nil && !mutant.On("session-plain-again") {
		h.endCancel(n.cancel)
	}
	w.name = n
	w.ask = proto.CloneOf(w.ask)
	w.ask.RequestId = n.id
}

// leaveName takes a caller from its name; the last one's leaving forgets it, but for
// its cancel. The caller holds mu.
func (h *Host) leaveName(w *plainWait) {
	if w.name == nil {
		return
	}
	w.name.callers--
	h.forgetName(w.name)
}

func (h *Host) forgetName(n *asking) {
	if (n.told || n.callers == 0 && n.cancel == nil) && h.askings[n.key] == n {
		delete(h.askings, n.key)
	}
}

// giveUp ends a wait's call. If something of it may be left it is cancelled,
// unless another caller waits under the same name or was told that it holds.
func (h *Host) giveUp(ctx context.Context, c *call, err error) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.calls, c)
	n := c.wait.name
	if n == nil {
		return err // a try
	}
	n.sent = n.sent || errors.Is(err, ErrUnknown)
	n.callers--
	defer h.forgetName(n)
	if (n.sent || n.callers > 0) && !errors.Is(err, ErrUnknown) {
		err = errors.Join(ErrUnknown, err) // whatever became of the other askings
	}
	if h.closed {
		return err
	}
	over := &WaitOver{cause: err}
	others := n.callers > 0 && !mutant.On("session-plain-callers") || n.told && !mutant.On("session-plain-told")
	if n.sent && !others {
		over.cancel = h.cancelPlain(c.wait)
	}
	if ctx.Err() == nil {
		return err // refused: its caller is there to ask again
	}
	return over
}

// cancelPlain gives a plain wait up in the background. Its bound is the wait's
// own lease: past that the leader ends it anyway. It is sent before anybody else
// can ask by the same name, and by no later link once somebody does: so it never
// arrives after that asking. The caller holds mu.
func (h *Host) cancelPlain(w *plainWait) *cancelling {
	if mutant.On("session-plain-cancel") {
		return nil // the wait's lease ends it
	}
	n, a := w.name, w.ask
	if n.cancel != nil {
		return n.cancel
	}
	if h.cancelling >= cancelsMax {
		return nil
	}
	ctx, stop := context.WithTimeout(context.Background(), 2*time.Duration(a.TtlNanos))
	c := &call{done: make(chan struct{}), cmd: &command.Command{Kind: &command.Command_PlainCancel{PlainCancel: &command.PlainCancel{
		Owner: a.Owner, Lock: a.Lock, RequestId: n.id,
	}}}}
	x := &cancelling{name: n, call: c, stop: stop, done: make(chan struct{})}
	n.cancel = x
	h.cancelling++
	h.calls[c] = struct{}{}
	h.sendCall(c)
	h.waiting.Go(func() {
		select {
		case <-c.done:
		case <-h.gone:
		case <-ctx.Done():
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		taken := n.cancel != x
		h.endCancel(x)
		code := c.result.GetCode()
		x.applied = code == command.Code_CODE_OK || code == command.Code_CODE_NOT_WAITING
		close(x.done)
		if c.result == nil && !taken {
			h.say(slog.LevelWarn, "a plain wait's cancel was not answered; its lease ends it", "lock", a.Lock, "error", c.err)
		}
	})
	return x
}

// endCancel makes an end of a cancel: it was answered, nobody may answer it any
// more, or somebody asks by its name again. The caller holds mu.
func (h *Host) endCancel(x *cancelling) {
	if x.name.cancel != x {
		return
	}
	x.stop()
	x.name.cancel = nil
	h.cancelling--
	delete(h.calls, x.call)
	h.forgetName(x.name)
}
