// Package telemetry sets up what makes an agent visible: metrics, traces, and
// the log's link to them. It is handed in: it knows nobody of this tree, and
// whoever measures something is given [Instruments] and no global.
//
// # Promises
//
// An agent that nobody configured dials nobody: /metrics is served from memory,
// and traces and metrics go out only where an OTEL_* variable asks for it (see
// [Setup]). Labels are bounded sets; no lock name, session or owner is one.
// Every method of Instruments is safe on a nil receiver, safe from any goroutine,
// does not allocate on the paths of beats and requests, and never blocks; so it
// may be called with a mutex held. [Telemetry.Shutdown] takes no longer than its
// bound however dead a collector is.
//
// It does not promise that what was measured arrives anywhere: a queue of spans
// that is full drops them, and a collector that is away gets nothing later.
//
// # Goroutines
//
// Those of the OpenTelemetry SDK: one that sends batches of spans, one that
// sends metrics at an interval, each only where asked for. Shutdown ends them.
package telemetry
