package daemon

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	raftlock "github.com/raftlock/raftlock/sdk/go"
	"github.com/raftlock/raftlock/uds"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// alone are the options of one host on free ports.
func alone(t *testing.T) Options {
	t.Helper()
	dir, err := os.MkdirTemp("", "rl") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	o := DevOptions(dir)
	o.Name, o.GossipPort, o.PeerPort, o.Log = "a", 0, 0, slog.New(slog.DiscardHandler)
	return o
}

// start runs an agent, and returns what stops it.
func start(t *testing.T, o Options) (stop func()) {
	t.Helper()
	d, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- d.Run(ctx) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	}
}

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func TestOneHost(t *testing.T) {
	o := alone(t)
	o.HTTP = "127.0.0.1:0"
	ctx := within(t)
	reached := make(chan struct{}, 2) // this one and the restarted one
	o.Reached = func() { reached <- struct{}{} }
	stop := start(t, o)
	select {
	case <-reached:
	case <-ctx.Done():
		t.Fatal("it is not told that locks can be had")
	}
	s, err := raftlock.NewSession(ctx, raftlock.WithSocket(o.Socket))
	if err != nil {
		t.Fatal(err)
	}
	first, err := s.Lock(ctx, "x")
	if err != nil {
		t.Fatal(err)
	}
	token, err := first.Token()
	if err != nil {
		t.Fatal(err)
	}
	// A restart loses nothing: the same process goes on holding.
	stop()
	stop = start(t, o)
	second, err := s.Lock(ctx, "y")
	if err != nil {
		t.Fatal(err)
	}
	if !first.Valid() {
		t.Error("lost by a restart")
	}
	if next, _ := second.Token(); next <= token {
		t.Errorf("token %d after %d", next, token)
	}
	if err := s.Close(ctx); err != nil {
		t.Error(err)
	}
	stop()
	for _, path := range []string{o.Socket, o.AdminSocket} {
		if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is left behind: %v", path, err)
		}
	}
}

// What Open took it gives back when it fails, and says what to change.
func TestOpenTakesAllOrNothing(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = taken.Close() }()
	for _, c := range []struct {
		name   string
		change func(*testing.T, *Options)
		is     error
		names  string
	}{
		{"peer port taken", func(_ *testing.T, o *Options) { o.PeerPort = taken.Addr().(*net.TCPAddr).Port }, nil, "--peer-port"},
		{"HTTP port taken", func(_ *testing.T, o *Options) { o.HTTP = taken.Addr().String() }, nil, "--http"},
		{"no directory for the socket", func(_ *testing.T, o *Options) { o.Socket = filepath.Join(o.DataDir, "none", "s.sock") }, nil, "--socket"},
		{"a file where the socket goes", func(t *testing.T, o *Options) {
			if err := os.WriteFile(o.AdminSocket, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}, nil, "--admin-socket"},
		{"no such group", func(_ *testing.T, o *Options) { o.SocketGroup = "no-such-group-anywhere" }, nil, "no-such-group-anywhere"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := alone(t)
			good := o
			c.change(t, &o)
			_, err := Open(o)
			if err == nil || !strings.Contains(err.Error(), c.names) {
				t.Fatalf("Open: %v", err)
			}
			if err := os.RemoveAll(good.AdminSocket); err != nil {
				t.Fatal(err)
			}
			start(t, good)() // everything is free again
		})
	}
}

func TestOneAgentADirectoryAndASocket(t *testing.T) {
	o := alone(t)
	stop := start(t, o)
	defer stop()
	if _, err := Open(o); !errors.Is(err, ErrInUse) {
		t.Errorf("the same directory: %v", err)
	}
	other := alone(t)
	other.Socket = o.Socket
	if _, err := Open(other); !errors.Is(err, uds.ErrInUse) {
		t.Errorf("the same socket: %v", err)
	}
}

func TestSmallFiles(t *testing.T) {
	d, err := openDataDir(filepath.Join(t.TempDir(), "a", "b"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = d.close() }()
	if got, err := d.Load("k"); got != nil || err != nil {
		t.Errorf("never saved: %q, %v", got, err)
	}
	for _, want := range []string{"one", "", "three"} {
		if err := d.Save("k", []byte(want)); err != nil {
			t.Fatal(err)
		}
		if got, err := d.Load("k"); got == nil || string(got) != want || err != nil {
			t.Errorf("%q was saved: %q, %v", want, got, err)
		}
	}
	if info, err := os.Stat(d.path); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("others may look: %v, %v", info.Mode(), err)
	}
}
