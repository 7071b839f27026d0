package link

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// muxed runs a Mux at address "a" of n; stop ends it and waits.
func (n *testNet) muxed(t *testing.T) (m *Mux, stop func()) {
	m = NewMux(n.listen("a"), "s")
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := m.Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
	}()
	return m, sync.OnceFunc(func() {
		cancel()
		<-done
	})
}

func closedByPeer(conn net.Conn) bool {
	_ = conn.SetReadDeadline(time.Now().Add(time.Hour))
	_, err := conn.Read(make([]byte, 1))
	var late net.Error
	return err != nil && !(errors.As(err, &late) && late.Timeout())
}

// TestMuxServesBoth, while a silent connection waits for its end.
func TestMuxServesBoth(t *testing.T) {
	bubble(t, func(t *testing.T, n *testNet, c *Client) {
		m, stop := n.muxed(t)
		defer stop()
		silent, err := n.dial(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var served sync.WaitGroup
		served.Go(func() {
			if err := Serve(ctx, m.Links(), &handler{}, ServerConfig{}); err != nil {
				t.Error(err)
			}
		})
		served.Go(func() {
			for {
				conn, err := m.Raft().Accept()
				if err != nil {
					return
				}
				_, _ = io.Copy(conn, conn)
				_ = conn.Close()
			}
		})
		began := time.Now()
		if _, err := c.Ask(t.Context(), "a", question()); err != nil {
			t.Error(err)
		}
		raft, err := DialRaft(t.Context(), n.dial, "a", "s")
		if err != nil {
			t.Fatal(err)
		}
		echo := make([]byte, 5)
		if _, err := raft.Write([]byte("hello")); err != nil {
			t.Error(err)
		}
		if _, err := io.ReadFull(raft, echo); err != nil || string(echo) != "hello" {
			t.Errorf("%q, %v", echo, err)
		}
		if time.Since(began) != 0 {
			t.Error("the silent one was waited for")
		}
		if !closedByPeer(silent) || time.Since(began) != helloTimeout {
			t.Errorf("the silent one is there after %v", time.Since(began))
		}
		// Decided connections have no deadline.
		time.Sleep(10 * helloTimeout)
		if _, err := raft.Write([]byte("again")); err != nil {
			t.Error(err)
		}
		if _, err := io.ReadFull(raft, echo); err != nil || string(echo) != "again" {
			t.Errorf("%q, %v", echo, err)
		}
		_ = raft.Close()
		if m.Raft().Addr() != m.Links().Addr() {
			t.Error("two addresses")
		}
		cancel()
		stop()
		served.Wait()
	})
}

// TestMuxCrowd: of too many silent ones the oldest goes, and who speaks is
// served.
func TestMuxCrowd(t *testing.T) {
	bubble(t, func(t *testing.T, n *testNet, _ *Client) {
		m, stop := n.muxed(t)
		defer stop()
		var crowd []net.Conn
		for range undecidedMax + 2 {
			conn, err := n.dial(t.Context(), "a")
			if err != nil {
				t.Fatal(err)
			}
			crowd = append(crowd, conn)
			synctest.Wait()
		}
		if _, err := DialRaft(t.Context(), n.dial, "a", "s"); err != nil {
			t.Fatal(err)
		}
		conn, err := m.Raft().Accept()
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		for i, c := range crowd[:3] {
			if !closedByPeer(c) || time.Since(began) != 0 {
				t.Errorf("number %d went after %v", i, time.Since(began))
			}
		}
		if !closedByPeer(crowd[3]) || time.Since(began) != helloTimeout {
			t.Errorf("the others went after %v", time.Since(began))
		}
		_ = conn.Close()
	})
}

func TestMuxBacklog(t *testing.T) {
	bubble(t, func(t *testing.T, n *testNet, _ *Client) {
		m, stop := n.muxed(t)
		defer stop()
		var conns []net.Conn
		for range backlogMax + 1 {
			conn, err := DialRaft(t.Context(), n.dial, "a", "s")
			if err != nil {
				t.Fatal(err)
			}
			conns = append(conns, conn)
			synctest.Wait()
		}
		if !closedByPeer(conns[backlogMax]) {
			t.Error("the backlog has no bound")
		}
		first, err := m.Raft().Accept()
		if err != nil {
			t.Fatal(err)
		}
		_ = first.Close()
		// Closing one half closes what waits in it, and leaves the other.
		_ = m.Raft().Close()
		_ = m.Raft().Close()
		if !closedByPeer(conns[1]) {
			t.Error("one that waited is left")
		}
		if _, err := m.Raft().Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Accept: %v", err)
		}
		late, err := DialRaft(t.Context(), n.dial, "a", "s")
		if err != nil {
			t.Fatal(err)
		}
		if !closedByPeer(late) {
			t.Error("accepted by nobody")
		}
		other, err := n.dial(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := other.Write([]byte("PRI * ")); err != nil {
			t.Fatal(err)
		}
		conn, err := m.Links().Accept()
		if err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 6)
		if _, err := io.ReadFull(conn, got); err != nil || string(got) != "PRI * " {
			t.Errorf("%q, %v", got, err)
		}
		_ = conn.Close()
	})
}

func TestMuxEnds(t *testing.T) {
	bubble(t, func(t *testing.T, n *testNet, _ *Client) {
		m, stop := n.muxed(t)
		silent, err := n.dial(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		stop()
		if _, err := m.Links().Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Accept: %v", err)
		}
		if !closedByPeer(silent) {
			t.Error("an undecided one is left")
		}
	})
	broken := brokenListener{err: errors.New("broken")}
	if err := NewMux(&broken, "s").Run(t.Context()); !errors.Is(err, broken.err) {
		t.Errorf("Run: %v", err)
	}
}

// TestMuxOutOfFiles: a failure that passes does not end the port.
func TestMuxOutOfFiles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := brokenListener{err: errors.New("broken"), passing: 12}
		began := time.Now()
		if err := NewMux(&broken, "s").Run(t.Context()); !errors.Is(err, broken.err) {
			t.Errorf("Run: %v", err)
		}
		if d := time.Since(began); d < time.Second || d > 10*time.Second {
			t.Errorf("took %v", d)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := NewMux(&brokenListener{passing: 1 << 30}, "s").Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}

// brokenListener is a listener that fails, for a while as if out of files.
type brokenListener struct {
	passing int
	err     error
}

func (b *brokenListener) Accept() (net.Conn, error) {
	if b.passing--; b.passing >= 0 {
		return nil, syscall.EMFILE
	}
	return nil, b.err
}
func (b *brokenListener) Close() error   { return nil }
func (b *brokenListener) Addr() net.Addr { return &net.UnixAddr{Name: "broken"} }

func TestDialRaftFails(t *testing.T) {
	bubble(t, func(t *testing.T, n *testNet, _ *Client) {
		if _, err := DialRaft(t.Context(), n.dial, "nobody", "s"); !errors.Is(err, errRefusedByNobody) {
			t.Errorf("nobody there: %v", err)
		}
		pipe := func(context.Context, string) (net.Conn, error) {
			near, _ := net.Pipe()
			return near, nil
		}
		began := time.Now()
		if _, err := DialRaft(t.Context(), pipe, "deaf", "s"); err == nil || time.Since(began) != helloTimeout {
			t.Errorf("deaf: %v after %v", err, time.Since(began))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := DialRaft(ctx, pipe, "deaf", "s"); err == nil || time.Since(began) != helloTimeout+time.Second {
			t.Errorf("deaf, less time: %v after %v", err, time.Since(began))
		}
	})
}

// A connection of Raft that another server at this address was meant for is
// closed: its server would be counted for the other as well.
func TestMuxRefusesAnotherServers(t *testing.T) {
	bubble(t, func(t *testing.T, n *testNet, _ *Client) {
		_, stop := n.muxed(t)
		defer stop()
		for _, server := range []string{"t", "ss", strings.Repeat("s", 255)} {
			conn, err := DialRaft(t.Context(), n.dial, "a", server)
			if err != nil {
				t.Fatal(err)
			}
			if !closedByPeer(conn) {
				t.Errorf("for %q: accepted", server)
			}
		}
		for _, server := range []string{"", strings.Repeat("s", 256)} {
			if _, err := DialRaft(t.Context(), n.dial, "a", server); !errors.Is(err, ErrServerID) {
				t.Errorf("%d bytes: %v", len(server), err)
			}
		}
	})
}
