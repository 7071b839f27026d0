package telemetry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/otlptranslator"
	"go.opentelemetry.io/contrib/exporters/autoexport"
	promexporter "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/raftlock/raftlock/telemetry/tracing"
)

// shutdownBound is how long Shutdown takes at the most. An agent's stop waits
// for it, and a supervisor for the agent.
const shutdownBound = 5 * time.Second

// Config is what Setup is told. Log is required.
type Config struct {
	// Instance is the resource's service.instance.id: the agent's name. Version is
	// its service.version. Both are left out where empty.
	Instance, Version string
	// Log is told what goes wrong with sending. Danger: not one that sends its
	// lines over what Setup makes.
	Log *slog.Logger
	// ShutdownBound is the longest that Shutdown takes. Default 5 s.
	ShutdownBound time.Duration
}

// Telemetry is one process's traces and metrics. Setup makes it; Shutdown must
// follow.
type Telemetry struct {
	instruments *Instruments
	registry    *prometheus.Registry
	metrics     *metric.MeterProvider
	traces      *sdktrace.TracerProvider // nil: none were asked for
	cut         context.CancelFunc       // ends what still tries to send spans
	log         *slog.Logger
	bound       time.Duration

	once sync.Once
	err  error
}

// Setup makes metrics, which are always served by Handler, and traces.
//
// Out of this process go
//
//   - traces, if OTEL_TRACES_EXPORTER names an exporter (otlp, console), or an
//     OTLP endpoint is given for all signals or for traces
//     (OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT);
//   - metrics, if OTEL_METRICS_EXPORTER names one, or
//     OTEL_EXPORTER_OTLP_METRICS_ENDPOINT is given. An endpoint for all signals
//     is not enough: /metrics is there, and sending the same twice is not free.
//
// Everything else is the SDK's own reading of OTEL_*: protocol, headers,
// batches, intervals, attributes, and the sampler, which is parentbased_always_on
// where OTEL_TRACES_SAMPLER says nothing, as whoever switches traces on expects.
// OTEL_SDK_DISABLED=true leaves only Handler.
//
// A variable that cannot be used is logged and left aside: locks do not wait for
// telemetry. An error means that the metrics themselves could not be made, and
// nothing was started.
func Setup(ctx context.Context, cfg Config) (*Telemetry, error) {
	t := &Telemetry{registry: prometheus.NewRegistry(), log: cfg.Log, bound: cfg.ShutdownBound}
	if t.bound == 0 {
		t.bound = shutdownBound
	}
	hearSDK(cfg.Log)
	env := environment()
	who := t.resource(ctx, cfg)
	if err := t.makeMetrics(ctx, who, env); err != nil {
		return nil, fmt.Errorf("set up metrics: %w", err)
	}
	t.makeTraces(ctx, who, env)
	t.log.Info("telemetry", "traces", t.traces != nil, "metrics_sent", env.metrics)
	return t, nil
}

// resource says who sends. What the environment says of it comes last, and wins.
func (t *Telemetry) resource(ctx context.Context, cfg Config) *resource.Resource {
	r, err := resource.New(ctx, resource.WithAttributes(identity(cfg)...), resource.WithTelemetrySDK(),
		resource.WithHost(), resource.WithFromEnv())
	if err != nil {
		t.log.Warn("part of what telemetry says of this process is missing", "error", err)
	}
	return r
}

func (t *Telemetry) makeMetrics(ctx context.Context, who *resource.Resource, env asked) error {
	// Names are what the table says, whoever reads them: no suffix is added.
	scraped, err := promexporter.New(promexporter.WithRegisterer(t.registry), promexporter.WithoutScopeInfo(),
		promexporter.WithTranslationStrategy(otlptranslator.UnderscoreEscapingWithoutSuffixes))
	if err != nil {
		return err
	}
	options := []metric.Option{metric.WithReader(scraped), metric.WithResource(who)}
	if env.metrics {
		if r, err := autoexport.NewMetricReader(ctx); err != nil {
			t.log.Warn("metrics are not sent: look at the OTEL_ variables", "error", err)
		} else {
			options = append(options, metric.WithReader(r))
		}
	}
	t.metrics = metric.NewMeterProvider(options...)
	if t.instruments, err = NewInstruments(t.metrics.Meter(tracing.Scope)); err != nil {
		return errors.Join(err, t.metrics.Shutdown(ctx))
	}
	return errors.Join(
		t.registry.Register(collectors.NewGoCollector()),
		t.registry.Register(collectors.NewProcessCollector(collectors.ProcessCollectorOpts{})),
	)
}

func (t *Telemetry) makeTraces(ctx context.Context, who *resource.Resource, env asked) {
	if !env.traces {
		return
	}
	exporter, err := autoexport.NewSpanExporter(ctx)
	if err != nil {
		t.log.Warn("traces are not sent: look at the OTEL_ variables", "error", err)
		return
	}
	if autoexport.IsNoneSpanExporter(exporter) {
		return
	}
	whole, cut := context.WithCancel(context.WithoutCancel(ctx)) // ends in shutdown
	t.cut = cut
	t.traces = sdktrace.NewTracerProvider(sdktrace.WithBatcher(cuttable{exporter, whole}), sdktrace.WithResource(who))
}

// Instruments are the metrics. Nil on nil, which measures nothing.
func (t *Telemetry) Instruments() *Instruments {
	if t == nil {
		return nil
	}
	return t.instruments
}

// TracerProvider makes spans; where no traces were asked for, spans of nothing.
func (t *Telemetry) TracerProvider() trace.TracerProvider {
	if t == nil || t.traces == nil {
		return noop.NewTracerProvider()
	}
	return t.traces
}

// propagator carries a trace between processes: W3C traceparent and tracestate.
// It works without traces being sent too, so that an agent that sends none does
// not cut those of others in two.
func propagator() propagation.TextMapPropagator { return propagation.TraceContext{} }

// Handler serves /metrics: everything in the table that this agent has, the Go
// runtime, the process, and with Libraries theirs. Nil on nil.
func (t *Telemetry) Handler() http.Handler {
	if t == nil {
		return nil
	}
	return promhttp.HandlerFor(t.registry, promhttp.HandlerOpts{
		// Mostly of scrapers that hung up.
		ErrorLog: slog.NewLogLogger(t.log.Handler(), slog.LevelDebug),
		// One half of the numbers is better than none, in an incident.
		ErrorHandling:     promhttp.ContinueOnError,
		EnableOpenMetrics: true, // it has exemplars: the trace of a slow call
		// Each scrape asks the agent for its state.
		MaxRequestsInFlight: 4,
	})
}

// Shutdown sends what is queued and ends the goroutines of Setup, within its
// bound and ctx's: what a collector has not taken by then is lost. It is safe to
// repeat.
func (t *Telemetry) Shutdown(ctx context.Context) error {
	if t == nil {
		return nil
	}
	t.once.Do(func() { t.err = t.shutdown(ctx) })
	return t.err
}

func (t *Telemetry) shutdown(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, t.bound)
	defer cancel()
	// At once, not in turn: each may take all the time there is.
	var traces, metrics error
	var both sync.WaitGroup
	if t.traces != nil {
		defer t.cut()
		both.Go(func() { traces = t.traces.Shutdown(ctx) })
	}
	both.Go(func() { metrics = t.metrics.Shutdown(ctx) })
	both.Wait()
	return errors.Join(traces, metrics)
}
