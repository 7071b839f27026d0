package telemetry

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/test/bufconn"

	_ "github.com/raftlock/raftlock/api/raftlock/v1" // the methods that there are
	"github.com/raftlock/raftlock/telemetry/tracing"
)

const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

func recording() (*Telemetry, *tracetest.SpanRecorder) {
	r := tracetest.NewSpanRecorder()
	return &Telemetry{traces: sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(r))}, r
}

func TestRequestsOverHTTPAreTraced(t *testing.T) {
	cases := []struct {
		name, path string
		records    bool // here
		parent     string
		spans      string // "name status"
		within     string // the trace that the handler is in
	}{
		{"in the caller's trace", "/locks/x", true, parent, "GET /locks/{key} 404", "0af7651916cd43dd8448eb211c80319c"},
		{"a route that is none", "/locks", true, parent, "other 404", ""},
		{"not one of these", "/metrics", true, parent, "", ""},
		{"handed on where nobody records", "/locks/x", false, parent, "", "0af7651916cd43dd8448eb211c80319c"},
		{"a caller who traces nothing", "/locks/x", false, "", "", ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			tel, r := recording()
			if !c.records {
				tel = nil
			}
			within := ""
			mux := http.NewServeMux()
			mux.HandleFunc("GET /locks/{key}", func(w http.ResponseWriter, r *http.Request) {
				if sc := trace.SpanContextFromContext(r.Context()); sc.IsValid() {
					within = sc.TraceID().String()
				}
				w.WriteHeader(http.StatusNotFound)
			})
			q := httptest.NewRequest(http.MethodGet, c.path, nil)
			if c.parent != "" {
				q.Header.Set("traceparent", c.parent)
			}
			tel.Traced(mux, func(path string) bool { return strings.HasPrefix(path, "/locks") }).ServeHTTP(httptest.NewRecorder(), q)
			var got string
			for _, s := range r.Ended() {
				for _, a := range s.Attributes() {
					if a.Key == httpStatus {
						got = s.Name() + " " + a.Value.String()
					}
				}
			}
			if got != c.spans || within != c.within || len(r.Started()) != len(r.Ended()) {
				t.Errorf("spans %q within %q", got, within)
			}
		})
	}
}

// What callers write is kept with every span until it is sent, so it is bounded.
func TestSpansKeepNoMethodOfTheCallers(t *testing.T) {
	for given, want := range map[string]string{
		http.MethodPost: http.MethodPost, strings.Repeat("A", 60_000): "_OTHER", "get": "_OTHER", "PROPFIND": "_OTHER",
	} {
		tel, r := recording()
		q := httptest.NewRequest(given, "/locks/x", nil)
		tel.Traced(http.NotFoundHandler(), func(string) bool { return true }).ServeHTTP(httptest.NewRecorder(), q)
		for _, s := range r.Ended() {
			for _, a := range s.Attributes() {
				if a.Key == httpMethod && a.Value.AsString() != want {
					t.Errorf("%.9s is kept as %.9s", given, a.Value.AsString())
				}
			}
		}
		if len(r.Ended()) != 1 {
			t.Errorf("%.9s: %d spans", given, len(r.Ended()))
		}
	}
}

// serving is a gRPC server's client.
func serving(t *testing.T, options []grpc.ServerOption, register func(*grpc.Server)) *grpc.ClientConn {
	t.Helper()
	l := bufconn.Listen(1 << 16)
	g := grpc.NewServer(options...)
	register(g)
	go func() { _ = g.Serve(l) }()
	t.Cleanup(g.Stop)
	conn, err := grpc.NewClient("passthrough:///x", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(context.Context, string) (net.Conn, error) { return l.Dial() }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// probe is a service of one unary call, named as one of ours would be.
func probe(within *trace.SpanContext) func(*grpc.Server) {
	call := func(ctx context.Context) { *within = trace.SpanContextFromContext(ctx) }
	return func(g *grpc.Server) {
		g.RegisterService(&grpc.ServiceDesc{ServiceName: "raftlock.v1.RaftLock", HandlerType: (*any)(nil), Methods: []grpc.MethodDesc{{
			MethodName: "Get",
			Handler: func(_ any, ctx context.Context, decode func(any) error, chain grpc.UnaryServerInterceptor) (any, error) {
				q := &healthpb.HealthCheckRequest{}
				if err := decode(q); err != nil {
					return nil, err
				}
				return chain(ctx, q, &grpc.UnaryServerInfo{FullMethod: "/raftlock.v1.RaftLock/Get"}, func(ctx context.Context, _ any) (any, error) {
					call(ctx)
					return &healthpb.HealthCheckResponse{}, nil
				})
			},
		}}}, nil)
		healthpb.RegisterHealthServer(g, health.NewServer())
	}
}

func TestUnaryCallsAreTraced(t *testing.T) {
	for _, c := range []struct {
		name  string
		spans int
	}{{"recorded", 1}, {"handed on", 0}} {
		t.Run(c.name, func(t *testing.T) {
			tel, r := recording()
			if c.spans == 0 {
				tel = nil
			}
			var within trace.SpanContext
			conn := serving(t, tel.GRPC(), probe(&within))
			ctx := metadata.AppendToOutgoingContext(t.Context(), "traceparent", parent)
			if err := conn.Invoke(ctx, "/raftlock.v1.RaftLock/Get", &healthpb.HealthCheckRequest{}, &healthpb.HealthCheckResponse{}); err != nil {
				t.Fatal(err)
			}
			if _, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{}); err != nil {
				t.Fatal(err)
			}
			if n := len(r.Started()); n != c.spans {
				t.Errorf("%d spans", n)
			}
			if want := tracing.Parse(parent, ""); within.TraceID() != want.TraceID() || !within.IsSampled() {
				t.Errorf("the call is in %v", within)
			}
		})
	}
}

func TestStreamsAreNotTraced(t *testing.T) {
	for name, want := range map[string]bool{
		"/raftlock.v1.RaftLock/Get": true, "/raftlock.v1.RaftLock/Acquire": true, "/raftlock.v1.Admin/ForceRelease": true,
		"/raftlock.v1.RaftLock/Session": false, "/raftlock.v1.RaftLock/GetRequest": false, "/raftlock.v1.GetRequest/lock": false,
		"/raftlock.v1.RaftLock/": false, "/raftlock.v1.RaftLock": false, "/raftlock.v1/RaftLock.Get": false, "/raftlock.\xff/\x00": false,
		"/raftlock.v1.RaftLock/" + strings.Repeat("x", 60_000): false, "/grpc.health.v1.Health/Check": false,
		"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo": false,
	} {
		if tracedMethod(name) != want {
			t.Errorf("%s: %v", name, !want)
		}
	}
}
