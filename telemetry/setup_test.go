package telemetry

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/otel/trace"
	metricspb "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	tracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	resourcepb "go.opentelemetry.io/proto/otlp/resource/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/raftlock/raftlock/telemetry/tracing"
)

// collector is a real OTLP receiver on loopback.
type collector struct {
	tracepb.UnimplementedTraceServiceServer
	metrics
	address string

	mu       sync.Mutex // guards the rest
	spans    []string
	numbers  map[string]bool
	resource map[string]string
}

type metrics struct {
	metricspb.UnimplementedMetricsServiceServer
	c *collector
}

func newCollector(t *testing.T) *collector {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &collector{address: "http://" + l.Addr().String(), numbers: make(map[string]bool), resource: make(map[string]string)}
	c.c = c
	s := grpc.NewServer()
	tracepb.RegisterTraceServiceServer(s, c)
	metricspb.RegisterMetricsServiceServer(s, c.metrics)
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Stop()
		if err := <-served; err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			t.Errorf("collector: %v", err)
		}
	})
	return c
}

func (c *collector) from(r *resourcepb.Resource) {
	for _, a := range r.GetAttributes() {
		c.resource[a.Key] = a.GetValue().GetStringValue()
	}
}

func (c *collector) Export(_ context.Context, r *tracepb.ExportTraceServiceRequest) (*tracepb.ExportTraceServiceResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, rs := range r.ResourceSpans {
		c.from(rs.Resource)
		for _, ss := range rs.ScopeSpans {
			for _, s := range ss.Spans {
				c.spans = append(c.spans, s.Name)
			}
		}
	}
	return &tracepb.ExportTraceServiceResponse{}, nil
}

func (m metrics) Export(_ context.Context, r *metricspb.ExportMetricsServiceRequest) (*metricspb.ExportMetricsServiceResponse, error) {
	m.c.mu.Lock()
	defer m.c.mu.Unlock()
	for _, rm := range r.ResourceMetrics {
		m.c.from(rm.Resource)
		for _, sm := range rm.ScopeMetrics {
			for _, x := range sm.Metrics {
				m.c.numbers[x.Name] = true
			}
		}
	}
	return &metricspb.ExportMetricsServiceResponse{}, nil
}

// lines is a log that a test reads.
type lines struct {
	mu  sync.Mutex // guards buf
	buf bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// clean takes every variable away that decides what is sent.
func clean(t *testing.T, set map[string]string) {
	t.Helper()
	for _, name := range []string{
		"OTEL_SDK_DISABLED", "OTEL_TRACES_EXPORTER", "OTEL_METRICS_EXPORTER", "OTEL_EXPORTER_OTLP_ENDPOINT",
		"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "OTEL_EXPORTER_OTLP_PROTOCOL",
		"OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES", "OTEL_TRACES_SAMPLER",
	} {
		t.Setenv(name, set[name])
	}
}

func setUp(t *testing.T, c Config) *Telemetry {
	t.Helper()
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	tel, err := Setup(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tel.Shutdown(context.Background()) })
	return tel
}

func scrape(t *testing.T, tel *Telemetry, accept string) string {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil)
	r.Header.Set("Accept", accept)
	w := httptest.NewRecorder()
	tel.Handler().ServeHTTP(w, r)
	if w.Code != http.StatusOK {
		t.Fatalf("/metrics answers %d: %s", w.Code, w.Body)
	}
	return w.Body.String()
}

// something measures each metric of the table at least once.
func something(t *testing.T, i *Instruments) {
	t.Helper()
	i.Acquired(Granted)
	i.AcquireAnswered(Granted, time.Millisecond)
	i.Waited(Granted, time.Second)
	i.Released(Released)
	i.HeldFor(Released, time.Second)
	i.Renewed(3)
	i.BeatAnswered(time.Millisecond)
	i.Committed(time.Millisecond)
	i.Called(t.Context(), "raftlock.v1.RaftLock/Get", codes.OK.String(), time.Millisecond)
	stop, err := i.Observe(func() State {
		return State{Active: 2, Waiters: 3, Sessions: 4, Role: Voter, Raft: &Raft{Term: 5, CommitIndex: 6, Elections: 7, State: 2}}
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
}

func TestSpansAndMetricsArrive(t *testing.T) {
	for _, c := range []struct {
		name           string
		set            map[string]string
		spans, numbers bool
		service        string
	}{
		{"an endpoint for all", map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "*"}, true, false, "raftlock"},
		{"traces by name", map[string]string{"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "*"}, true, false, "raftlock"},
		{"metrics too", map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "*", "OTEL_METRICS_EXPORTER": "otlp"}, true, true, "raftlock"},
		{"metrics alone", map[string]string{"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "*"}, false, true, "raftlock"},
		{"another name", map[string]string{
			"OTEL_EXPORTER_OTLP_ENDPOINT": "*", "OTEL_SERVICE_NAME": "locks", "OTEL_RESOURCE_ATTRIBUTES": "service.instance.id=z",
		}, true, false, "locks"},
		{"never sampled", map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "*", "OTEL_TRACES_SAMPLER": "always_off"}, false, false, ""},
		{"switched off", map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "*", "OTEL_METRICS_EXPORTER": "otlp", "OTEL_SDK_DISABLED": "true"}, false, false, ""},
		{"traces off", map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "*", "OTEL_TRACES_EXPORTER": "none"}, false, false, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			at := newCollector(t)
			set := maps.Clone(c.set)
			for k, v := range set {
				set[k] = strings.Replace(v, "*", at.address, 1)
			}
			set["OTEL_EXPORTER_OTLP_PROTOCOL"] = "grpc"
			clean(t, set)
			tel := setUp(t, Config{Instance: "a", Version: "1"})
			something(t, tel.Instruments())
			_, span := tel.TracerProvider().Tracer(tracing.Scope).Start(t.Context(), "acquire")
			span.End()
			if err := tel.Shutdown(t.Context()); err != nil {
				t.Fatal(err)
			}
			at.mu.Lock()
			defer at.mu.Unlock()
			if got := slices.Contains(at.spans, "acquire"); got != c.spans {
				t.Errorf("spans arrived: %v, of %v", got, at.spans)
			}
			for _, m := range Table() {
				if at.numbers[m.Name] != c.numbers {
					t.Errorf("%s arrived: %v", m.Name, at.numbers[m.Name])
				}
			}
			if got := at.resource["service.name"]; got != c.service {
				t.Errorf("service.name %q, want %q", got, c.service)
			}
			want := "a"
			if strings.Contains(c.set["OTEL_RESOURCE_ATTRIBUTES"], "instance") {
				want = "z"
			}
			if c.service != "" && at.resource["service.instance.id"] != want {
				t.Errorf("service.instance.id %q, want %q", at.resource["service.instance.id"], want)
			}
		})
	}
}

// The SDK's default is a collector on this host. Whoever set no variable has
// none, and gets no connection attempt and no complaint.
func TestNobodyIsDialledUnasked(t *testing.T) {
	for _, c := range []struct {
		name string
		set  map[string]string
	}{
		{"no variable", nil},
		{"a protocol alone", map[string]string{"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}},
		{"prometheus is here already", map[string]string{"OTEL_METRICS_EXPORTER": "prometheus"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			clean(t, c.set)
			var log lines
			tel := setUp(t, Config{Log: slog.New(slog.NewTextHandler(&log, nil))})
			_, span := tel.TracerProvider().Tracer(tracing.Scope).Start(t.Context(), "acquire")
			if span.IsRecording() {
				t.Error("a span is recorded that nobody asked for")
			}
			span.End()
			if err := tel.Shutdown(t.Context()); err != nil {
				t.Error(err)
			}
			if strings.Contains(log.String(), "level=WARN") {
				t.Errorf("complains: %s", &log)
			}
		})
	}
}

// Locks do not wait for telemetry: what cannot be used is said, and left aside.
func TestWrongVariableIsLeftAside(t *testing.T) {
	clean(t, map[string]string{"OTEL_TRACES_EXPORTER": "pigeon", "OTEL_METRICS_EXPORTER": "pigeon"})
	var log lines
	tel := setUp(t, Config{Log: slog.New(slog.NewTextHandler(&log, nil))})
	something(t, tel.Instruments())
	if got := strings.Count(log.String(), "look at the OTEL_ variables"); got != 2 {
		t.Errorf("said %d times, want for traces and metrics: %s", got, &log)
	}
	if !strings.Contains(scrape(t, tel, ""), "lock_acquire_total") {
		t.Error("/metrics is gone with it")
	}
}

// A collector that takes connections and answers nobody.
func TestDeadCollectorHoldsNobodyUp(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	for _, protocol := range []string{"grpc", "http/protobuf"} {
		t.Run(protocol, func(t *testing.T) {
			clean(t, map[string]string{
				"OTEL_EXPORTER_OTLP_ENDPOINT": "http://" + l.Addr().String(), "OTEL_METRICS_EXPORTER": "otlp",
				"OTEL_EXPORTER_OTLP_PROTOCOL": protocol,
			})
			const bound = 200 * time.Millisecond
			tel := setUp(t, Config{ShutdownBound: bound})
			_, span := tel.TracerProvider().Tracer(tracing.Scope).Start(t.Context(), "acquire")
			span.End()
			begin := time.Now()
			err := tel.Shutdown(t.Context())
			took := time.Since(begin)
			t.Logf("bound %v, took %v", bound, took)
			if err == nil {
				t.Error("what was lost is not told")
			}
			if took > 20*bound { // far from the 10 s of one attempt, and the minute of retries
				t.Errorf("took %v, bound %v", took, bound)
			}
			if again := tel.Shutdown(t.Context()); again != err { //nolint:errorlint // the very same
				t.Errorf("repeated: %v, then %v", err, again)
			}
		})
	}
}

func TestLogsCarryTheirSpan(t *testing.T) {
	var log lines
	logger := slog.New(LogHandler(slog.NewTextHandler(&log, nil))).With("component", "x")
	c := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{2}})
	logger.InfoContext(trace.ContextWithSpanContext(t.Context(), c), "in")
	logger.Info("out")
	got := strings.Split(strings.TrimSpace(log.String()), "\n")
	if len(got) != 2 || !strings.Contains(got[0], "component=x trace_id=01000000000000000000000000000000 span_id=0200000000000000") ||
		strings.Contains(got[1], "trace_id") {
		t.Errorf("logged %q", got)
	}
}

func TestComplaintsAreFew(t *testing.T) {
	var log lines
	c := &complaints{log: slog.New(slog.NewTextHandler(&log, nil))}
	for range 1000 {
		c.Handle(status.Error(codes.Unavailable, "away"))
	}
	if got := strings.Count(log.String(), "\n"); got != 1 {
		t.Errorf("%d lines", got)
	}
	c.last = time.Now().Add(-complainEvery)
	c.Handle(status.Error(codes.Unavailable, "away"))
	if !strings.Contains(log.String(), "untold=999") {
		t.Errorf("does not tell how many: %s", &log)
	}
}
