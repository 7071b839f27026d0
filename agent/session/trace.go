package session

import (
	"context"
	"encoding/hex"
	"errors"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	api "github.com/raftlock/raftlock/api/raftlock/v1"
	"github.com/raftlock/raftlock/fsm/command"
	"github.com/raftlock/raftlock/link/linkpb"
	"github.com/raftlock/raftlock/telemetry/tracing"
)

// spans are those of one request while it is under way here; package tracing
// has the whole tree. A nil *spans is a request that nobody records: every
// method does nothing then. Each span ends exactly once, whatever becomes of
// the request; what outlives this agent (a wait that the application lists at
// its next start) has none there. The Host's mutex guards those of a session.
type spans struct {
	tracer  trace.Tracer
	ctx     context.Context // what forward and wait are children of
	serve   trace.Span      // nil: the caller's
	forward trace.Span      // nil: no answer is awaited
	wait    trace.Span      // nil: it does not wait
	told    *linkpb.Trace   // forward, as links carry it
	sent    int             // on how many links
	holder  trace.SpanContext
	heldBy  []attribute.KeyValue
}

// arrived begins the spans of a session's request. Who asks says whether it is
// recorded; where it says nothing the agent's own sampling does.
func (h *Host) arrived(s *session, e *entry, t *api.Trace) *spans {
	if h.cfg.Tracer == nil && t == nil {
		return nil
	}
	ctx := context.Background() // a span's parent, no more: nothing ends with it
	if sc := tracing.Parse(t.GetTraceparent(), t.GetTracestate()); sc.IsValid() {
		ctx = trace.ContextWithRemoteSpanContext(ctx, sc)
	}
	tracer := tracing.OrNone(h.cfg.Tracer)
	ctx, serve := tracer.Start(ctx, tracing.Serve, trace.WithSpanKind(trace.SpanKindServer))
	if !tracing.Wanted(serve) {
		return nil
	}
	if serve.IsRecording() {
		serve.SetAttributes(tracing.Request.String(requestOf(e.cmd)), tracing.Session.String(hex.EncodeToString(s.id[:])))
		if e.lock != "" {
			serve.SetAttributes(tracing.Lock.String(e.lock))
		}
	}
	return &spans{tracer: tracer, ctx: ctx, serve: serve}
}

// within are the spans of a request that no session makes, below its caller's.
func (h *Host) within(ctx context.Context) *spans {
	if !tracing.Wanted(trace.SpanFromContext(ctx)) {
		return nil
	}
	return &spans{tracer: tracing.OrNone(h.cfg.Tracer), ctx: ctx}
}

// sends notes that the request goes out on a link, and returns what the leader
// is told of it.
func (x *spans) sends(up *uplink) *linkpb.Trace {
	if x == nil {
		return nil
	}
	x.sent++
	if x.forward != nil {
		x.forward.AddEvent(tracing.EventRepeated)
	} else {
		_, x.forward = x.tracer.Start(x.ctx, tracing.Forward, trace.WithSpanKind(trace.SpanKindClient))
		x.told = traceOf(x.forward.SpanContext())
	}
	if x.forward.IsRecording() {
		if to, ok := up.Uplink.(Leader); ok {
			id, hops := to.Leader()
			x.forward.SetAttributes(tracing.Leader.String(id), tracing.Hops.Int(hops))
		}
	}
	return x.told
}

// context is what the request's lines in the log are said in.
func (x *spans) context() context.Context {
	if x == nil {
		return context.Background() // nobody records it
	}
	return x.ctx
}

// answered ends forward: the leader's answer is here, or what it would say is
// known by other ways.
func (x *spans) answered(outcome, why string) {
	if x == nil || x.forward == nil {
		return
	}
	x.forward.SetAttributes(tracing.Repetitions.Int(x.sent - 1))
	tracing.End(x.forward, outcome, why)
	x.forward = nil
}

// met notes whom the leader named as the one who has the lock.
func (x *spans) met(f *linkpb.Proposed) {
	if x == nil || f == nil {
		return
	}
	x.holder = tracing.Parse(f.Holder.GetTraceparent(), f.Holder.GetTracestate())
	by := f.HeldBy
	if by == nil {
		return
	}
	x.heldBy = []attribute.KeyValue{tracing.HolderToken.Int64(int64(by.Token)), tracing.HolderOwner.String(by.Owner)}
	if by.Agent != "" { // a plain hold is attached to none
		x.heldBy = append(x.heldBy, tracing.HolderAgent.String(by.Agent))
	}
}

// links are those to the holder, at most one.
func (x *spans) links() []trace.Link {
	if !x.holder.IsValid() {
		return nil
	}
	return []trace.Link{tracing.HolderLink(x.holder, x.heldBy...)}
}

// waits begins the wait, unless it is known already.
func (x *spans) waits(lock string, position uint64) {
	if x == nil {
		return
	}
	x.answered(tracing.OutcomeWaiting, "")
	if x.wait != nil {
		return
	}
	_, x.wait = x.tracer.Start(x.ctx, tracing.Wait, trace.WithLinks(x.links()...))
	x.wait.SetAttributes(tracing.Lock.String(lock), tracing.Position.Int64(int64(position)))
	x.wait.SetAttributes(x.heldBy...)
}

// granted ends the wait, if it waited.
func (x *spans) granted(token uint64) {
	if x == nil {
		return
	}
	x.answered(tracing.OutcomeHeld, "")
	if x.wait == nil {
		return
	}
	x.wait.AddEvent(tracing.EventGranted, trace.WithAttributes(tracing.Token.Int64(int64(token))))
	tracing.End(x.wait, tracing.OutcomeHeld, "")
	x.wait = nil
}

// noted adds an event to serve.
func (x *spans) noted(event string) {
	if x != nil && x.serve != nil {
		x.serve.AddEvent(event)
	}
}

// over ends all that is open. Safe to repeat.
func (x *spans) over(outcome, why string, token uint64) {
	if x == nil {
		return
	}
	x.answered(outcome, why)
	if x.wait != nil {
		tracing.End(x.wait, outcome, why)
		x.wait = nil
	}
	if x.serve == nil {
		return
	}
	if token != 0 {
		x.serve.SetAttributes(tracing.Token.Int64(int64(token)))
	}
	if outcome == tracing.OutcomeRefused { // perhaps found held
		x.serve.SetAttributes(x.heldBy...)
		for _, l := range x.links() {
			x.serve.AddLink(l)
		}
	}
	tracing.End(x.serve, outcome, why)
	x.serve = nil
}

// about says of the caller's span what it asks for.
func (x *spans) about(a *command.PlainAcquire) {
	if x == nil {
		return
	}
	trace.SpanFromContext(x.ctx).SetAttributes(tracing.Lock.String(a.Lock), tracing.Owner.String(a.Owner))
}

// within is ctx inside the wait, if it waits: each time that a plain wait asks
// anew is part of that.
func (x *spans) within(ctx context.Context) context.Context {
	if x == nil || x.wait == nil {
		return ctx
	}
	return trace.ContextWithSpan(ctx, x.wait)
}

// settled ends the spans of a request that no session makes.
func (x *spans) settled(r *command.Result, err error) {
	if x == nil {
		return
	}
	var left *WaitOver
	switch {
	case errors.As(err, &left):
		x.over(tracing.OutcomeCancelled, "", 0)
	case errors.Is(err, ErrUnknown):
		x.over(tracing.OutcomeUnknown, "", 0)
	case err != nil:
		x.over(tracing.OutcomeRefused, "", 0)
	case r.Code != command.Code_CODE_OK:
		x.over(tracing.OutcomeRefused, word(reason(r.Code)), 0)
	case len(r.Standings) == 1:
		x.stands(r.Standings[0])
	default:
		x.over(tracing.OutcomeApplied, "", 0)
	}
}

// stands takes in what a plain acquire is answered.
func (x *spans) stands(st *command.Standing) {
	switch st.State {
	case command.Standing_STATE_WAITING:
		x.answered(tracing.OutcomeWaiting, "")
	case command.Standing_STATE_HELD:
		x.granted(st.Token)
	default:
		x.over(tracing.OutcomeGone, word(goneReasons[st.Gone]), 0)
	}
}

// Leader is what an Uplink may tell beside: the leader's server id, and how many
// connections away it is (0: this agent leads itself). For people.
type Leader interface {
	Leader() (id string, hops int)
}

// traceOf is a span's context as links carry it; nil if nobody samples it.
func traceOf(sc trace.SpanContext) *linkpb.Trace {
	if !sc.IsSampled() {
		return nil
	}
	parent, state := tracing.Format(sc)
	return &linkpb.Trace{Traceparent: parent, Tracestate: state}
}

// word is a reason as attributes have it.
func word(r api.Reason) string { return strings.TrimPrefix(r.String(), "REASON_") }

// ends ends the spans of an entry that leaves the session's books by an answer
// of the cluster.
func (e *entry) ends(why api.Reason) {
	switch why {
	case api.Reason_REASON_OK, api.Reason_REASON_RELEASED:
		if e.acquire {
			e.spans.over(tracing.OutcomeGone, word(why), e.token)
			return
		}
		outcome := tracing.OutcomeApplied
		if e.cmd.GetRelease() != nil {
			outcome = tracing.OutcomeReleased
		}
		e.spans.over(outcome, "", e.cmd.GetRelease().GetToken())
	case api.Reason_REASON_CANCELLED:
		e.spans.over(tracing.OutcomeCancelled, "", 0)
	default:
		outcome := tracing.OutcomeRefused
		if e.acquire && (e.answered || e.held) {
			outcome = tracing.OutcomeGone
		}
		e.spans.over(outcome, word(why), e.token)
	}
}

// remove forgets an entry that nobody wants any more.
func (s *session) remove(seq uint64, outcome string, why api.Reason) {
	if e := s.entries[seq]; e != nil {
		e.spans.over(outcome, word(why), 0)
		delete(s.entries, seq)
	}
}

// endSpans ends all spans of a session that is forgotten here.
func (s *session) endSpans(outcome, why string) {
	for _, e := range s.entries {
		e.spans.over(outcome, why, 0)
	}
}

// requestOf names a command for people.
func requestOf(c *command.Command) string {
	switch c.GetKind().(type) {
	case *command.Command_Acquire:
		return "acquire"
	case *command.Command_Release:
		return "release"
	case *command.Command_SetTtl:
		return "set_ttl"
	}
	return ""
}
