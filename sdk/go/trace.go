package raftlock

import (
	"context"
	"encoding/hex"
	"errors"
	"strings"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	raftlockv1 "github.com/raftlock/raftlock/api/raftlock/v1"
)

// Names of the spans made here, and of their attributes; the agent's have the
// same keys.
const (
	spanScope   = "github.com/raftlock/raftlock/sdk/go"
	spanAcquire = "raftlock.acquire" // from Lock or TryLock to its return
	spanRelease = "raftlock.release" // from Unlock to its return

	attrLock    = attribute.Key("raftlock.lock")
	attrSession = attribute.Key("raftlock.session")
	attrTry     = attribute.Key("raftlock.try")
	attrToken   = attribute.Key("raftlock.token")
	attrOutcome = attribute.Key("raftlock.outcome")
	attrReason  = attribute.Key("raftlock.reason")
)

// WithTracerProvider sets who records the spans of Lock, TryLock and Unlock,
// which are children of the span in their context. Default: the global one
// (otel.SetTracerProvider), which records nothing unless the application has set
// it. Whether or not a span is recorded here, the context's goes to the agent,
// as W3C traceparent.
func WithTracerProvider(p trace.TracerProvider) Option {
	return func(c *config) { c.tracers = p }
}

func (c *config) tracer() trace.Tracer {
	p := c.tracers
	if p == nil {
		p = otel.GetTracerProvider()
	}
	return p.Tracer(spanScope)
}

// begin starts a span of a request, and returns what goes with the request: nil
// outside of any trace. One that is not sampled goes too, so that the agent
// does not begin a trace of its own.
func (s *Session) begin(ctx context.Context, name string) (trace.Span, *raftlockv1.Trace) {
	ctx, span := s.tracer.Start(ctx, name, trace.WithSpanKind(trace.SpanKindClient))
	if span.IsRecording() {
		span.SetAttributes(attrSession.String(hex.EncodeToString(s.id)))
	}
	if !span.SpanContext().IsValid() {
		return span, nil
	}
	c := &propagation.MapCarrier{}
	propagation.TraceContext{}.Inject(ctx, c)
	return span, &raftlockv1.Trace{Traceparent: c.Get("traceparent"), Tracestate: c.Get("tracestate")}
}

// endAcquire ends a span with what its call returns.
func endAcquire(span trace.Span, l *Lock, err error) {
	defer span.End()
	switch {
	case !span.IsRecording():
	case err != nil:
		failed(span, err)
	default:
		token, _ := l.Token() // 0: lost already
		span.SetAttributes(attrOutcome.String("held"), attrToken.Int64(int64(token)))
	}
}

func endRelease(span trace.Span, err error) {
	defer span.End()
	switch {
	case !span.IsRecording():
	case err != nil:
		failed(span, err)
	default:
		span.SetAttributes(attrOutcome.String("released"))
	}
}

// failed says how a call did not do what was asked.
func failed(span trace.Span, err error) {
	outcome := "refused"
	var e *Error
	if errors.As(err, &e) {
		if e.Applied == AppliedUnknown {
			outcome = "unknown"
		}
		span.SetAttributes(attrReason.String(strings.TrimPrefix(e.Reason.String(), "REASON_")))
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		outcome = "cancelled"
	}
	span.SetAttributes(attrOutcome.String(outcome))
	span.SetStatus(codes.Error, err.Error())
}

// propagate sends the context's trace along with a unary request.
func propagate(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, call grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	if trace.SpanContextFromContext(ctx).IsValid() {
		c := propagation.MapCarrier{}
		propagation.TraceContext{}.Inject(ctx, c)
		for _, key := range c.Keys() {
			ctx = metadata.AppendToOutgoingContext(ctx, key, c[key])
		}
	}
	return call(ctx, method, req, reply, conn, opts...)
}
