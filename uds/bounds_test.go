package uds

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

func check(t testing.TB, s *Server) {
	t.Helper()
	if _, err := healthpb.NewHealthClient(dial(t, s)).Check(within(t), &healthpb.HealthCheckRequest{}); err != nil {
		t.Fatal(err)
	}
}

// mustBeClosed waits for the server to close a connection.
func mustBeClosed(t testing.TB, conn net.Conn, what string) {
	t.Helper()
	_ = conn.SetReadDeadline(time.Now().Add(patience))
	_, err := io.Copy(io.Discard, conn)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%s is not closed", what)
	}
}

func mustBeOpen(t testing.TB, conn net.Conn, what string) {
	t.Helper()
	_ = conn.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%s: %v", what, err)
	}
}

func TestSilentOnesAreClosedInTime(t *testing.T) {
	s, _ := start(t, Config{FirstBytesTimeout: 30 * time.Millisecond})
	for _, said := range []string{"", "P", "PRI", "PRI * HTTP/2.0\r\n"} {
		conn := dialRaw(t, s)
		_, _ = io.WriteString(conn, said)
		mustBeClosed(t, conn, "one that said "+said)
	}
}

func TestOldestSilentOneIsClosed(t *testing.T) {
	s, _ := start(t, Config{Silent: 3, FirstBytesTimeout: time.Hour})
	var conns []*net.UnixConn
	for range 5 {
		conns = append(conns, dialRaw(t, s))
	}
	mustBeClosed(t, conns[0], "the oldest")
	mustBeClosed(t, conns[1], "the next")
	for _, c := range conns[2:] {
		mustBeOpen(t, c, "a younger one")
	}
	check(t, s)
}

func TestSilentCrowdHindersNobody(t *testing.T) {
	const crowd = 2000
	s, stop := start(t, Config{FirstBytesTimeout: time.Hour})
	for range crowd {
		dialRaw(t, s)
	}
	began := time.Now()
	check(t, s)
	t.Logf("a first call beside %d silent connections: %v", crowd, time.Since(began))
	s.crowd.mu.Lock()
	if n := len(s.crowd.silent); n > SilentDefault {
		t.Errorf("%d silent connections", n)
	}
	s.crowd.mu.Unlock()
	stop()
}

func TestConnectionsAreBounded(t *testing.T) {
	entered := make(chan struct{}, 8)
	s, _ := start(t, Config{Connections: 8, HTTP: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		entered <- struct{}{}
		<-r.Context().Done()
	})})
	const mine = 6 // three quarters
	var kept []*net.UnixConn
	for range mine {
		conn := dialRaw(t, s)
		kept = append(kept, conn)
		_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		<-entered
	}
	refused := dialRaw(t, s)
	mustBeClosed(t, refused, "one too many")
	for _, conn := range kept {
		mustBeOpen(t, conn, "one that is served")
	}
	_ = kept[0].Close()
	// That it ended is noticed soon, not at once.
	for deadline := time.Now().Add(patience); ; {
		conn := dialRaw(t, s)
		_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		select {
		case <-entered:
			return
		case <-time.After(10 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			t.Fatal("room is not given back")
		}
	}
}

// Connections on which nothing is under way, or whose request is not whole, keep
// nobody out, whoever's they are, and are bounded by themselves.
func TestIdleOnesMakeRoom(t *testing.T) {
	for name, said := range map[string]string{
		"idle":      "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
		"half-open": "GET / HTTP/1.1\r\nHo",
		"gRPC":      "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00",
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := start(t, Config{Connections: 16, HTTP: http.NotFoundHandler()})
			const idle = 4 // a quarter
			var conns []*net.UnixConn
			for range 40 {
				conn := dialRaw(t, s)
				conns = append(conns, conn)
				_, _ = io.WriteString(conn, said)
				if name != "half-open" {
					_ = conn.SetReadDeadline(time.Now().Add(patience))
					if n, err := conn.Read(make([]byte, 4096)); n == 0 {
						t.Fatalf("a connection is not served: %v", err)
					}
				}
			}
			for i, conn := range conns[:len(conns)-2*idle] {
				mustBeClosed(t, conn, fmt.Sprintf("connection %d", i+1))
			}
			check(t, s)
		})
	}
}

func TestMessagesAndStreamsAreBounded(t *testing.T) {
	open := make(chan struct{})
	s, _ := start(t, Config{
		MessageBytes: 1000, Streams: 2,
		Register: probe(func(ctx context.Context) error {
			select {
			case <-open:
			case <-ctx.Done():
			}
			return nil
		}).register,
		HTTP: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if _, err := io.ReadAll(r.Body); err != nil {
				w.WriteHeader(http.StatusRequestEntityTooLarge)
			}
		}),
	})
	conn := dial(t, s)
	_, err := healthpb.NewHealthClient(conn).Check(within(t), &healthpb.HealthCheckRequest{Service: strings.Repeat("x", 1001)})
	if status.Code(err) != codes.ResourceExhausted {
		t.Errorf("a large message: %v", err)
	}
	response, err := httpClient(t, s).Post("http://x/", "text/plain", strings.NewReader(strings.Repeat("x", 1001)))
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	if response.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("a large body: %s", response.Status)
	}

	call(within(t), t, conn)
	call(within(t), t, conn)
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if _, err := conn.NewStream(ctx, &probeDesc.Streams[0], "/test.Probe/Call"); status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("a third call of a connection: %v", err)
	}
	close(open)
	call(within(t), t, conn)
}

// A session outlives its connection, and so must the watch that a call began.
func TestWatchOutlivesTheConnection(t *testing.T) {
	type watch struct {
		gone <-chan struct{}
		stop func()
	}
	watches := make(chan watch, 1)
	s, stop := start(t, Config{Register: probe(func(ctx context.Context) error {
		p, _ := PeerFrom(ctx)
		<-ctx.Done() // the connection ended
		gone, stop := p.Watch()
		watches <- watch{gone, stop}
		return nil
	}).register})
	c := startChild(t, "stream", s.Addr())
	c.says("closed")
	w := <-watches
	if w.gone == nil || isClosed(w.gone) {
		t.Fatal("no watch of a living process")
	}
	c.kill()
	mustEnd(t, w.gone, "the exit")
	w.stop()
	stop()
}

func TestRunLeavesNothing(t *testing.T) {
	const others = 20
	dir := t.TempDir()
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	before := descriptors(t)
	began := make(chan struct{}, others)
	s, err := Listen(Config{
		Path: filepath.Join(dir, "s"), StopTimeout: 20 * time.Millisecond,
		Register: probe(func(ctx context.Context) error {
			p, _ := PeerFrom(ctx)
			p.Watch() // and never stopped
			began <- struct{}{}
			<-ctx.Done()
			return nil
		}).register,
		HTTP: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			began <- struct{}{}
			<-r.Context().Done()
		}),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()

	var conns []io.Closer
	for range others {
		grpcConn, raw, silent := dial(t, s), dialRaw(t, s), dialRaw(t, s)
		call(ctx, t, grpcConn)
		_, _ = io.WriteString(raw, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		<-began
		<-began
		conns = append(conns, grpcConn, raw, silent)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	for _, c := range conns {
		_ = c.Close()
	}
	if after := descriptors(t); after > before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
	if got := entries(t, dir); got != "s.lock" {
		t.Errorf("the directory has %s", got)
	}
	if err := s.Run(context.Background()); err == nil {
		t.Error("Run a second time")
	}
}

// descriptors counts those that are open, but for the counting's own.
func descriptors(t testing.TB) int {
	t.Helper()
	found, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(found)
}

func TestStopIsGraceful(t *testing.T) {
	let := make(chan struct{})
	s, err := Listen(Config{
		Path: filepath.Join(t.TempDir(), "s"), StopTimeout: patience,
		Register: probe(func(context.Context) error { <-let; return nil }).register,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	stream := call(within(t), t, dial(t, s))
	cancel()
	select {
	case <-done:
		t.Error("Run returns before its handlers")
	case <-time.After(20 * time.Millisecond):
	}
	if _, err := net.Dial("unix", s.Addr()); err == nil {
		t.Error("a new client is let in")
	}
	close(let)
	if err := stream.RecvMsg(&healthpb.HealthCheckRequest{}); !errors.Is(err, io.EOF) {
		t.Errorf("a call under way: %v", err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// short plays a host that is out of descriptors for a while.
type short struct {
	net.Listener
	failures atomic.Int32
	err      error
}

func (l *short) Accept() (net.Conn, error) {
	if l.failures.Add(-1) >= 0 {
		return nil, &net.OpError{Op: "accept", Err: os.NewSyscallError("accept4", l.err)}
	}
	return l.Listener.Accept()
}

func TestAcceptSurvives(t *testing.T) {
	for _, failure := range []error{unix.EMFILE, unix.ENFILE, unix.ENOMEM} {
		t.Run(failure.Error(), func(t *testing.T) {
			l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
			if err != nil {
				t.Fatal(err)
			}
			var log strings.Builder
			listener := &short{Listener: l, err: failure}
			listener.failures.Store(3)
			s, stop := start(t, Config{Listener: listener, Log: slog.New(slog.NewTextHandler(&log, nil))})
			check(t, s)
			stop()
			if n := strings.Count(log.String(), failure.Error()); n != 1 {
				t.Errorf("logged %d times: %s", n, &log)
			}
		})
	}
}

func TestRunFailsWithItsListener(t *testing.T) {
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	listener := &short{Listener: l, err: unix.EBADF}
	listener.failures.Store(1)
	s, err := Listen(Config{Listener: listener})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Run(context.Background()); !errors.Is(err, unix.EBADF) {
		t.Error(err)
	}
}

// net/http would go on after a handler's panic.
func TestPanicEndsTheProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	c := startChild(t, "panic", path)
	c.says("listening")
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	err = c.Wait()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 2 || !strings.Contains(c.stderr.String(), "broken invariant") {
		t.Errorf("%v: %s", err, c.stderr.String())
	}
}
