package telemetry

import (
	"context"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// cuttable is an exporter whose attempts end with a context of ours too. The
// SDK's queue is drained by a goroutine that Shutdown's context does not reach:
// with a dead collector it would go on for half a minute after Shutdown.
type cuttable struct {
	sdktrace.SpanExporter
	cut context.Context
}

// ExportSpans implements sdktrace.SpanExporter.
func (c cuttable) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(c.cut, cancel)()
	return c.SpanExporter.ExportSpans(ctx, spans)
}
