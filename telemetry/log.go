package telemetry

import (
	"context"
	"log/slog"

	"go.opentelemetry.io/otel/trace"

	"github.com/raftlock/raftlock/telemetry/key"
)

// LogHandler adds trace_id and span_id to every line that is logged in the
// course of a span, so that the log and the trace lead to each other. Lines
// logged without a context are left alone.
func LogHandler(to slog.Handler) slog.Handler { return &logHandler{to} }

type logHandler struct{ slog.Handler }

// Handle implements slog.Handler.
func (h *logHandler) Handle(ctx context.Context, r slog.Record) error {
	if s := trace.SpanContextFromContext(ctx); s.IsValid() {
		r = r.Clone() // a record shares its attributes with its copies
		r.AddAttrs(slog.String(key.TraceID, s.TraceID().String()), slog.String(key.SpanID, s.SpanID().String()))
	}
	return h.Handler.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (h *logHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &logHandler{h.Handler.WithAttrs(attrs)}
}

// WithGroup implements slog.Handler. The ids go into the group: slog has no way
// to add to a record outside it.
func (h *logHandler) WithGroup(name string) slog.Handler {
	return &logHandler{h.Handler.WithGroup(name)}
}
