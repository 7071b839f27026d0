package raftlock

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"

	raftlockv1 "github.com/raftlock/raftlock/api/raftlock/v1"
)

// gateway serves the fake agent's streams over gRPC.
type gateway struct {
	raftlockv1.UnimplementedRaftLockServer
	agent *fake
}

func (g *gateway) Session(up raftlockv1.RaftLock_SessionServer) error {
	down, err := g.agent.dial(up.Context())
	if err != nil {
		return err
	}
	defer context.AfterFunc(up.Context(), func() { _ = down.Close() })()
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		for {
			m, err := down.Recv()
			if err != nil || up.Send(m) != nil {
				return
			}
		}
	}()
	for {
		m, err := up.Recv()
		if err != nil {
			_ = down.Close()
			<-sent
			return err
		}
		_ = down.Send(m)
	}
}

func TestOverTheSocket(t *testing.T) {
	defer goleak.VerifyNone(t)
	path := filepath.Join(t.TempDir(), "agent%20?.sock")
	t.Setenv("RAFTLOCK_SOCKET", path)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()

	opened := make(chan *Session)
	go func() {
		s, err := NewSession(ctx)
		if err != nil {
			t.Error(err)
		}
		opened <- s
	}()
	clock, err := hostClock()
	if err != nil {
		t.Fatal(err)
	}
	f := newFake(t)
	f.real = clock
	server := serveSocket(t, path, f)
	s := <-opened
	l, err := s.Lock(ctx, "a")
	if err != nil || !l.Valid() {
		t.Fatalf("lock: %v", err)
	}

	// The agent restarts.
	server.Stop()
	server = serveSocket(t, path, f)
	defer server.Stop()
	if err := l.Unlock(ctx); err != nil {
		t.Errorf("unlock: %v", err)
	}
	if err := s.Close(ctx); err != nil {
		t.Errorf("close: %v", err)
	}
}

func serveSocket(t *testing.T, path string, f *fake) *grpc.Server {
	t.Helper()
	lis, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	raftlockv1.RegisterRaftLockServer(server, &gateway{agent: f})
	go func() { _ = server.Serve(lis) }()
	return server
}

func TestNobodyOnTheSocket(t *testing.T) {
	defer goleak.VerifyNone(t)
	path := filepath.Join(t.TempDir(), "nobody.sock")
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := NewSession(ctx, WithSocket(path))
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), path) {
		t.Errorf("%v", err)
	}
}
