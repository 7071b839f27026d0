package agent

import (
	"bytes"
	"context"
	"errors"

	"go.opentelemetry.io/otel/trace"

	"github.com/raftlock/raftlock/agent/session"
	"github.com/raftlock/raftlock/consensus"
	"github.com/raftlock/raftlock/fsm"
	"github.com/raftlock/raftlock/fsm/command"
	"github.com/raftlock/raftlock/link"
	"github.com/raftlock/raftlock/link/linkpb"
	"github.com/raftlock/raftlock/telemetry/tracing"
)

var _ session.Leader = (*uplink)(nil)

// tracesMax bounds the locks whose holder's trace is remembered, and the waits.
const tracesMax = 1 << 14

// traced is one proposal that somebody records: the leader's span of it, and
// what the agent that asks told of its own. Nil: nobody does.
type traced struct {
	commit trace.Span
	told   *linkpb.Trace
}

// traceOf begins the span of a proposal that arrived with a trace.
func (d *leading) traceOf(p *linkpb.Propose) *traced {
	if p.Trace == nil {
		return nil
	}
	sc := tracing.Parse(p.Trace.Traceparent, p.Trace.Tracestate)
	if !sc.IsSampled() {
		return nil
	}
	ctx := trace.ContextWithRemoteSpanContext(context.Background(), sc) // a span's parent, no more
	_, commit := tracing.OrNone(d.tracer).Start(ctx, tracing.Commit, trace.WithSpanKind(trace.SpanKindServer))
	// Formatted anew: what is remembered has the bounds of what can be read.
	parent, state := tracing.Format(sc)
	return &traced{commit: commit, told: &linkpb.Trace{Traceparent: parent, Tracestate: state}}
}

// span is what consensus makes its steps below; nil where that is of no use.
func (t *traced) span() trace.Span {
	if t == nil || !t.commit.IsRecording() {
		return nil
	}
	return t.commit
}

// over ends the span with what became of the proposal.
func (t *traced) over(r *command.Result, err error) {
	if t == nil {
		return
	}
	switch {
	case errors.Is(err, consensus.ErrQueueFull):
		tracing.End(t.commit, tracing.OutcomeRefused, "QUEUE_FULL")
	case err != nil:
		tracing.End(t.commit, tracing.OutcomeUnknown, "")
	case r.Code != command.Code_CODE_OK:
		tracing.End(t.commit, tracing.OutcomeRefused, r.Code.String()[len("CODE_"):])
	case waits(r):
		tracing.End(t.commit, tracing.OutcomeWaiting, "")
	default:
		tracing.End(t.commit, tracing.OutcomeApplied, "")
	}
}

func waits(r *command.Result) bool {
	return len(r.Standings) == 1 && r.Standings[0].State == command.Standing_STATE_WAITING
}

func holds(r *command.Result) bool {
	return len(r.Standings) == 1 && r.Standings[0].State == command.Standing_STATE_HELD
}

// holderTraces remembers who asked for what is held and waited for, so that a
// wait can link to the trace of who is in its way. It is the memory of one
// leadership and no part of the state: a new leader knows those that ask it, and
// nothing of acquires that were granted before. The leadership's mutex guards
// it.
type holderTraces struct {
	held map[string]heldTrace // by lock
	wait map[fsm.ID]map[uint64]*linkpb.Trace
	// waits counts those in wait.
	waits int
}

type heldTrace struct {
	token uint64
	trace *linkpb.Trace
}

func newHolderTraces() *holderTraces {
	return &holderTraces{held: make(map[string]heldTrace), wait: make(map[fsm.ID]map[uint64]*linkpb.Trace)}
}

// hold notes who was granted a lock; nil: nobody records it.
func (h *holderTraces) hold(lock string, token uint64, t *linkpb.Trace) {
	delete(h.held, lock)
	if t == nil {
		return
	}
	for other := range h.held {
		if len(h.held) < tracesMax {
			break
		}
		delete(h.held, other) // any: a link less
	}
	h.held[lock] = heldTrace{token, t}
}

// of is the trace of who holds a lock under that token, if it is known.
func (h *holderTraces) of(lock string, token uint64) *linkpb.Trace {
	if x := h.held[lock]; x.token == token {
		return x.trace
	}
	return nil
}

func (h *holderTraces) waiting(session fsm.ID, seq uint64, t *linkpb.Trace) {
	if t == nil {
		return
	}
	if h.waits >= tracesMax && h.wait[session][seq] == nil {
		h.forgetWait()
	}
	if h.wait[session] == nil {
		h.wait[session] = make(map[uint64]*linkpb.Trace)
	}
	if h.wait[session][seq] == nil {
		h.waits++
	}
	h.wait[session][seq] = t
}

// forgetWait takes out any: a link less. Some are of waits that are over: those
// that a session's own reconcile takes away make no event.
func (h *holderTraces) forgetWait() {
	for session, waits := range h.wait {
		for seq := range waits {
			h.left(session, seq)
			return
		}
	}
}

// left takes out a wait that is over, and returns its trace.
func (h *holderTraces) left(session fsm.ID, seq uint64) *linkpb.Trace {
	t := h.wait[session][seq]
	if t == nil {
		return nil
	}
	h.waits--
	delete(h.wait[session], seq)
	if len(h.wait[session]) == 0 {
		delete(h.wait, session)
	}
	return t
}

// event follows what others did to holds and waits.
func (h *holderTraces) event(e fsm.Event) {
	seq := e.Seq
	if e.Incarnation == 0 {
		seq = 0 // a plain session's sequences are nobody's business
	}
	switch e.Kind {
	case fsm.EventGranted:
		h.hold(e.Lock, e.Token, h.left(e.Session, seq))
	case fsm.EventGone:
		h.left(e.Session, seq)
		if h.of(e.Lock, e.Token) != nil {
			delete(h.held, e.Lock)
		}
	case fsm.EventEnded:
		h.waits -= len(h.wait[e.Session])
		delete(h.wait, e.Session)
	}
}

// claim is what an acquire's command asks for; empty: it is none. Plain ones
// have no sequence.
func claim(c *command.Command) (lock string, session fsm.ID, seq uint64) {
	switch k := c.Kind.(type) {
	case *command.Command_Acquire:
		if len(c.Session) != len(session) {
			return "", session, 0
		}
		return k.Acquire.Lock, fsm.ID(c.Session), c.Seq
	case *command.Command_PlainAcquire:
		return k.PlainAcquire.Lock, fsm.PlainID(k.PlainAcquire.Owner, k.PlainAcquire.Lock), 0
	}
	return "", session, 0
}

func lockOf(c *command.Command) string {
	lock, _, _ := claim(c)
	return lock
}

// remember notes whose acquire was applied, whether or not somebody records it:
// one that nobody does must not pass for the one before it.
func (h *holderTraces) remember(c *command.Command, r *command.Result, t *traced) {
	var told *linkpb.Trace
	if t != nil {
		told = t.told
	}
	lock, session, seq := claim(c)
	switch {
	case c.GetCancel() != nil && len(c.Session) == len(session):
		h.left(fsm.ID(c.Session), c.GetCancel().Target)
	case lock == "":
	case holds(r):
		// Asked again without a trace, it is still the one known.
		if known := h.of(lock, r.Standings[0].Token); known == nil || told != nil {
			h.hold(lock, r.Standings[0].Token, told)
		}
	case waits(r):
		h.waiting(session, seq, told)
	}
}

// inTheWay is who holds the lock that a traced acquire waits for, or found held.
// It looks at the state: call it without the leadership's mutex.
func (d *leading) inTheWay(c *command.Command, r *command.Result, t *traced) *command.Holder {
	if t == nil {
		return nil
	}
	lock, session, seq := claim(c)
	switch {
	case lock == "":
		return nil
	case r.Holder != nil:
		return r.Holder
	case !waits(r):
		return nil
	}
	info, ok := d.node.StaleView().Get(lock)
	if !ok || info.Holder == nil {
		return nil
	}
	// Given on within the same entry, it may be its own already.
	own := bytes.Equal(info.Holder.Session, session[:]) && info.Seq == seq
	if own || info.Plain && info.Holder.Owner == c.GetPlainAcquire().GetOwner() {
		return nil
	}
	return info.Holder
}

// uplink is the agent's end of a link, and whom it leads to.
type uplink struct {
	*outbox[*link.Up]
	leader string
	hops   int
}

// Leader implements session.Leader.
func (u *uplink) Leader() (id string, hops int) { return u.leader, u.hops }
