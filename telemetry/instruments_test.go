package telemetry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/raftlock/raftlock/telemetry/tracing"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const openMetrics = "application/openmetrics-text; version=1.0.0"

// What is scraped is the table, name by name, in both formats.
func TestScrapeIsTheTable(t *testing.T) {
	clean(t, nil)
	tel := setUp(t, Config{})
	something(t, tel.Instruments())
	text := scrape(t, tel, "")
	p := expfmt.NewTextParser(model.LegacyValidation)
	families, err := p.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	var ours []string
	for _, m := range Table() {
		ours = append(ours, m.Name)
		f := families[m.Name]
		if f == nil {
			t.Errorf("%s is not scraped", m.Name)
			continue
		}
		if got := strings.ToLower(f.GetType().String()); got != string(m.Kind) {
			t.Errorf("%s is a %s, the table says %s", m.Name, got, m.Kind)
		}
		if f.GetHelp() != m.Help {
			t.Errorf("%s: help %q", m.Name, f.GetHelp())
		}
		for _, series := range f.Metric {
			for _, l := range series.Label {
				i := slices.IndexFunc(m.Labels, func(x Label) bool { return x.Name == l.GetName() })
				if i < 0 {
					t.Errorf("%s has the label %s, which the table does not", m.Name, l.GetName())
				} else if v := m.Labels[i].Values; v != nil && !slices.Contains(v, l.GetValue()) {
					t.Errorf("%s: %s=%q is not in the table", m.Name, l.GetName(), l.GetValue())
				}
			}
		}
	}
	for name := range families {
		outside := slices.ContainsFunc([]string{"go_", "process_", "target_info", "lib_"}, func(p string) bool { return strings.HasPrefix(name, p) })
		if !outside && !slices.Contains(ours, name) {
			t.Errorf("%s is scraped, and not in the table", name)
		}
	}
	open := scrape(t, tel, openMetrics)
	for _, name := range []string{acquireTotal, releaseTotal, renewTotal, activeCount, raftTerm, raftState, raftCommit, raftElections} {
		for format, body := range map[string]string{"text": text, "OpenMetrics": open} {
			if !strings.Contains(body, "\n"+name+" ") && !strings.Contains(body, "\n"+name+"{") {
				t.Errorf("%s: the fixed name %s is not there", format, name)
			}
		}
	}
}

func TestValues(t *testing.T) {
	clean(t, nil)
	tel := setUp(t, Config{})
	something(t, tel.Instruments())
	tel.Instruments().Acquired("no such outcome")
	text := scrape(t, tel, "")
	for _, want := range []string{
		`lock_acquire_total{outcome="granted"} 1`,
		`lock_acquire_total{outcome="held"} 0`,
		`lock_release_total{how="released"} 1`,
		`lock_renew_total 3`,
		`lock_active_count 2`,
		`raft_term 5`, `raft_state 2`, `raft_commit_index 6`, `raft_election_count 7`,
		`raftlock_waiters 3`, `raftlock_sessions 4`,
		`raftlock_role{role="voter"} 1`, `raftlock_role{role="forwarder"} 0`,
		`raftlock_rpc_total{code="OK",rpc="raftlock.v1.RaftLock/Get"} 1`,
		`raftlock_commit_duration_seconds_bucket{le="0.001"} 1`,
	} {
		if !strings.Contains(text, want+"\n") {
			t.Errorf("%s is not there", want)
		}
	}
	if strings.Contains(text, "no such outcome") {
		t.Error("a label that the table does not have")
	}
}

// A forwarder is no member of Raft and says nothing of it.
func TestForwarderHasNoRaft(t *testing.T) {
	clean(t, nil)
	tel := setUp(t, Config{})
	stop, err := tel.Instruments().Observe(func() State { return State{Role: Forwarder} })
	if err != nil {
		t.Fatal(err)
	}
	text := scrape(t, tel, "")
	if strings.Contains(text, "\nraft_") {
		t.Error("raft_* on a forwarder")
	}
	stop()
	if text := scrape(t, tel, ""); strings.Contains(text, activeCount) {
		t.Error("looked at after stop")
	}
}

// What never happened yet is 0, and not absent: a rate of it can be asked for.
func TestFixedCountersAreThereFromTheStart(t *testing.T) {
	clean(t, nil)
	text := scrape(t, setUp(t, Config{}), "")
	for _, name := range []string{acquireTotal, releaseTotal, renewTotal} {
		if !strings.Contains(text, "\n"+name+" 0\n") && !strings.Contains(text, "\n"+name+"{") {
			t.Errorf("%s is absent", name)
		}
	}
}

func TestNilMeasuresNothing(t *testing.T) {
	something(t, nil)
	var none *Telemetry
	something(t, none.Instruments())
	if none.Handler() != nil || none.Shutdown(t.Context()) != nil {
		t.Error("nil is not nothing")
	}
	_, span := none.TracerProvider().Tracer(tracing.Scope).Start(t.Context(), "x")
	span.End()
}

func TestCallsAreCounted(t *testing.T) {
	clean(t, nil)
	tel := setUp(t, Config{})
	i := tel.Instruments()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /locks/{name...}", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusConflict) })
	mux.HandleFunc("GET /ok", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") })
	for _, path := range []string{"/locks/a/b", "/locks/c", "/ok", "/nowhere/secret"} {
		i.HTTP(mux).ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
	}
	_, err := i.unaryServer(t.Context(), nil, &grpc.UnaryServerInfo{FullMethod: "/s.S/M"},
		func(context.Context, any) (any, error) { return nil, status.Error(codes.NotFound, "x") })
	if status.Code(err) != codes.NotFound {
		t.Errorf("the answer became %v", err)
	}
	_, _ = i.unaryServer(t.Context(), nil, &grpc.UnaryServerInfo{FullMethod: "/s.S/M"},
		func(context.Context, any) (any, error) { return nil, errors.New("x") })
	i.Answered("release", "NOT_HELD", time.Millisecond)
	i.Answered("anything else", "OK", time.Millisecond)
	text := scrape(t, tel, "")
	for _, want := range []string{
		`raftlock_rpc_total{code="NOT_HELD",rpc="Session/Release"} 1`,
		`raftlock_rpc_total{code="409",rpc="GET /locks/{name...}"} 2`,
		`raftlock_rpc_total{code="200",rpc="GET /ok"} 1`,
		`raftlock_rpc_total{code="404",rpc="other"} 1`,
		`raftlock_rpc_total{code="NotFound",rpc="s.S/M"} 1`,
		`raftlock_rpc_total{code="Unknown",rpc="s.S/M"} 1`,
		`raftlock_rpc_duration_seconds_count{code="200",rpc="GET /ok"} 1`,
	} {
		if !strings.Contains(text, want+"\n") {
			t.Errorf("%s is not there", want)
		}
	}
	if strings.Contains(text, "secret") {
		t.Error("a caller's path became a label")
	}
}

// The hooks are called with mutexes held, for every beat and every request.
func TestHooksDoNotAllocate(t *testing.T) {
	clean(t, nil)
	i := setUp(t, Config{}).Instruments()
	if got := testing.AllocsPerRun(1000, func() {
		i.Acquired(Granted)
		i.AcquireAnswered(Granted, time.Millisecond)
		i.Renewed(3)
		i.BeatAnswered(time.Millisecond)
		i.Committed(time.Millisecond)
		i.HeldFor(Released, time.Second)
		i.Answered("acquire", "OK", time.Millisecond)
	}); got > 0 {
		t.Errorf("%v allocations", got)
	}
}

func BenchmarkHooks(b *testing.B) {
	for _, v := range []string{"OTEL_TRACES_EXPORTER", "OTEL_METRICS_EXPORTER"} {
		b.Setenv(v, "none")
	}
	tel, err := Setup(b.Context(), Config{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = tel.Shutdown(b.Context()) }()
	for name, i := range map[string]*Instruments{"nil": nil, "measured": tel.Instruments()} {
		for what, do := range map[string]func(){
			"beat":    func() { i.Renewed(1000); i.BeatAnswered(time.Millisecond) },
			"acquire": func() { i.Acquired(Granted); i.AcquireAnswered(Granted, time.Millisecond) },
			"release": func() { i.Released(Released); i.HeldFor(Released, time.Second) },
			"commit":  func() { i.Committed(time.Millisecond) },
			"call":    func() { i.Called(b.Context(), "raftlock.v1.RaftLock/Get", "OK", time.Millisecond) },
		} {
			b.Run(fmt.Sprintf("%s/%s", what, name), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					do()
				}
			})
		}
	}
}
