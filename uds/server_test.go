package uds

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
)

// patience bounds what should take milliseconds, on a host that is busy.
const patience = 20 * time.Second

// probe is a gRPC service that hands every call to the test: the health service
// under another registration would collide, so it is described here by hand.
type probe func(context.Context) error

var probeDesc = grpc.ServiceDesc{
	ServiceName: "test.Probe",
	HandlerType: (*any)(nil),
	Streams: []grpc.StreamDesc{{
		StreamName:    "Call",
		ServerStreams: true, ClientStreams: true,
		Handler: func(srv any, s grpc.ServerStream) error {
			if err := s.SendMsg(&healthpb.HealthCheckRequest{}); err != nil {
				return err
			}
			return srv.(probe)(s.Context())
		},
	}},
}

func (p probe) register(g *grpc.Server) { g.RegisterService(&probeDesc, p) }

// call opens the stream of a probe and waits until its handler began.
func call(ctx context.Context, t testing.TB, conn *grpc.ClientConn) grpc.ClientStream {
	t.Helper()
	s, err := conn.NewStream(ctx, &probeDesc.Streams[0], "/test.Probe/Call")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.RecvMsg(&healthpb.HealthCheckRequest{}); err != nil {
		t.Fatal(err)
	}
	return s
}

// start runs a server, and waits for its end in the cleanup, or in stop.
func start(t testing.TB, c Config) (s *Server, stop func()) {
	t.Helper()
	if c.Path == "" && c.Listener == nil {
		c.Path = filepath.Join(t.TempDir(), "s")
	}
	s, err := Listen(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("Run: %v", err)
			}
		case <-time.After(patience):
			t.Fatal("Run does not return")
		}
	}
	t.Cleanup(stop)
	return s, stop
}

func dial(t testing.TB, s *Server) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient("unix:"+s.Addr(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

func dialRaw(t testing.TB, s *Server) *net.UnixConn {
	t.Helper()
	conn, err := net.Dial("unix", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn.(*net.UnixConn)
}

func httpClient(t testing.TB, s *Server) *http.Client {
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", s.Addr())
	}}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: patience}
}

func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

func TestHealthAndReflection(t *testing.T) {
	s, _ := start(t, Config{})
	conn := dial(t, s)
	check := func() healthpb.HealthCheckResponse_ServingStatus {
		t.Helper()
		a, err := healthpb.NewHealthClient(conn).Check(within(t), &healthpb.HealthCheckRequest{})
		if err != nil {
			t.Fatal(err)
		}
		return a.Status
	}
	if got := check(); got != healthpb.HealthCheckResponse_NOT_SERVING {
		t.Errorf("before the agent said so: %v", got)
	}
	s.Health().SetServingStatus("", healthpb.HealthCheckResponse_SERVING)
	if got := check(); got != healthpb.HealthCheckResponse_SERVING {
		t.Errorf("after the agent said so: %v", got)
	}

	stream, err := reflectionpb.NewServerReflectionClient(conn).ServerReflectionInfo(within(t))
	if err != nil {
		t.Fatal(err)
	}
	ask := &reflectionpb.ServerReflectionRequest{MessageRequest: &reflectionpb.ServerReflectionRequest_ListServices{}}
	if err := stream.Send(ask); err != nil {
		t.Fatal(err)
	}
	answer, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(answer.String(), "grpc.health.v1.Health") {
		t.Errorf("reflection lists %v", answer)
	}
	_ = stream.CloseSend()
}

func TestBothProtocolsOnOneSocket(t *testing.T) {
	peers := make(chan *Peer, 2)
	see := func(ctx context.Context) error {
		p, ok := PeerFrom(ctx)
		if !ok {
			return status.Error(codes.Internal, "no peer")
		}
		peers <- p
		return nil
	}
	s, _ := start(t, Config{
		Register: probe(see).register,
		HTTP: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if err := see(r.Context()); err != nil {
				t.Error(err)
			}
			_, _ = io.WriteString(w, "hello")
		}),
	})
	stream := call(within(t), t, dial(t, s))
	if err := stream.RecvMsg(&healthpb.HealthCheckRequest{}); !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	response, err := httpClient(t, s).Get("http://localhost/")
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(response.Body)
	_ = response.Body.Close()
	if string(body) != "hello" {
		t.Errorf("HTTP answers %q", body)
	}
	overGRPC, overHTTP := <-peers, <-peers
	if !overGRPC.Same(overHTTP) || overHTTP == overGRPC {
		t.Errorf("one process on two connections: %+v, %+v", overGRPC, overHTTP)
	}
}

func TestNoHTTPHandler(t *testing.T) {
	s, _ := start(t, Config{})
	response, err := httpClient(t, s).Get("http://localhost/locks")
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(response.Body)
	_ = response.Body.Close()
	if response.StatusCode != http.StatusNotImplemented || !strings.Contains(string(body), "gRPC only") {
		t.Errorf("%s: %q", response.Status, body)
	}
}
