package tracing

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
)

// Bounds of what is read: the W3C's format has 55 bytes in its version 00, and
// asks that 512 of a tracestate are kept.
const (
	parentBytesMax = 128
	stateBytesMax  = 512
)

// carrier is one trace context as two strings.
type carrier struct{ parent, state string }

func (c *carrier) Get(key string) string {
	switch key {
	case "traceparent":
		return c.parent
	case "tracestate":
		return c.state
	}
	return ""
}

func (c *carrier) Set(key, value string) {
	switch key {
	case "traceparent":
		c.parent = value
	case "tracestate":
		c.state = value
	}
}

func (*carrier) Keys() []string { return []string{"traceparent", "tracestate"} }

// Parse reads a W3C trace context as it came over a connection. What cannot be
// read is none: the zero value, which is not valid.
func Parse(parent, state string) trace.SpanContext {
	if parent == "" || len(parent) > parentBytesMax {
		return trace.SpanContext{}
	}
	if len(state) > stateBytesMax {
		state = ""
	}
	ctx := propagation.TraceContext{}.Extract(context.Background(), &carrier{parent, state})
	return trace.SpanContextFromContext(ctx)
}

// Format is the inverse of Parse: empty for a context that is not valid.
func Format(sc trace.SpanContext) (parent, state string) {
	c := &carrier{}
	propagation.TraceContext{}.Inject(trace.ContextWithSpanContext(context.Background(), sc), c)
	return c.parent, c.state
}

// Of is a provider's tracer; nil where it records nothing anyway, so that nothing
// is built for it.
func Of(p trace.TracerProvider) trace.Tracer {
	if _, none := p.(noop.TracerProvider); none || p == nil {
		return nil
	}
	return p.Tracer(Scope)
}

// OrNone is t, or where that is nil a tracer that records nothing and hands
// contexts on.
func OrNone(t trace.Tracer) trace.Tracer {
	if t == nil {
		return noop.NewTracerProvider().Tracer(Scope)
	}
	return t
}

// Wanted reports that somebody records the span, here or at whoever is told of
// it.
func Wanted(s trace.Span) bool { return s.IsRecording() || s.SpanContext().IsSampled() }

// End ends a span with an outcome and, unless it is empty, a reason.
func End(s trace.Span, outcome, reason string) {
	if s.IsRecording() {
		s.SetAttributes(Outcome.String(outcome))
		if reason != "" {
			s.SetAttributes(Reason.String(reason))
		}
		switch outcome {
		case OutcomeRefused, OutcomeGone, OutcomeUnknown:
			s.SetStatus(codes.Error, reason)
		}
	}
	s.End()
}

// HolderLink leads to the acquire that has a lock; the holder's attributes are
// those that the caller knows.
func HolderLink(sc trace.SpanContext, holder ...attribute.KeyValue) trace.Link {
	return trace.Link{SpanContext: sc, Attributes: append([]attribute.KeyValue{Link.String(LinkHolder)}, holder...)}
}
