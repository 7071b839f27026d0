package link

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/test/bufconn"

	"github.com/raftlock/raftlock/fsm/command"
	"github.com/raftlock/raftlock/link/linkpb"
)

var errRefusedByNobody = errors.New("connection refused")

// testNet is a network of listeners in memory. It works inside a bubble.
type testNet struct {
	mu        sync.Mutex
	listeners map[string]*bufconn.Listener
	conns     []*wire
	dials     int
}

func newTestNet() *testNet { return &testNet{listeners: map[string]*bufconn.Listener{}} }

func (n *testNet) listen(addr string) *bufconn.Listener {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.listeners[addr] = bufconn.Listen(1 << 16)
	return n.listeners[addr]
}

func (n *testNet) dial(ctx context.Context, addr string) (net.Conn, error) {
	n.mu.Lock()
	l := n.listeners[addr]
	n.dials++
	n.mu.Unlock()
	if l == nil {
		return nil, errRefusedByNobody
	}
	conn, err := l.DialContext(ctx)
	if err != nil {
		return nil, errRefusedByNobody
	}
	w := &wire{Conn: conn}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.conns = append(n.conns, w)
	return w, nil
}

// cut makes all present connections swallow everything, without a word.
func (n *testNet) cut() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, w := range n.conns {
		w.cut.Store(true)
	}
	n.conns = nil
}

type wire struct {
	net.Conn
	cut atomic.Bool
}

func (w *wire) Read(p []byte) (int, error) {
	for {
		n, err := w.Conn.Read(p)
		if err != nil || !w.cut.Load() {
			return n, err
		}
	}
}

func (w *wire) Write(p []byte) (int, error) {
	if w.cut.Load() {
		return len(p), nil
	}
	return w.Conn.Write(p)
}

func (w *wire) Close() error {
	if w.cut.Load() {
		// The far end does not hear of it either; the test's own end does.
		_ = w.SetReadDeadline(time.Unix(1, 0))
		return nil
	}
	return w.Conn.Close()
}

// handler is a Handler of functions; those that are nil do the obvious.
type handler struct {
	admit  func(*linkpb.Hello) *linkpb.Welcome
	link   func(DownConn)
	answer func(context.Context, *linkpb.Question) (*linkpb.Answer, error)
}

func (h *handler) Admit(hello *linkpb.Hello) *linkpb.Welcome {
	if h.admit != nil {
		return h.admit(hello)
	}
	return &linkpb.Welcome{Version: 1, ServerId: "server", Term: 3}
}

func (h *handler) Link(_ *linkpb.Hello, _ *linkpb.Welcome, conn DownConn) {
	if h.link != nil {
		h.link(conn)
		return
	}
	for {
		if _, err := conn.Recv(); err != nil {
			return
		}
	}
}

func (h *handler) Answer(ctx context.Context, q *linkpb.Question) (*linkpb.Answer, error) {
	if h.answer != nil {
		return h.answer(ctx, q)
	}
	return &linkpb.Answer{ServerId: "server", Agent: q.From, Answer: &linkpb.Answer_Term{Term: &linkpb.TermAnswer{Term: 3}}}, nil
}

// serving serves h at addr; the function returned stops it and waits.
func (n *testNet) serving(t testing.TB, addr string, h *handler) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	listener, done := n.listen(addr), make(chan struct{})
	go func() {
		defer close(done)
		if err := Serve(ctx, listener, h, ServerConfig{}); err != nil {
			t.Errorf("Serve: %v", err)
		}
	}()
	return sync.OnceFunc(func() {
		cancel()
		<-done
		n.mu.Lock()
		defer n.mu.Unlock()
		if n.listeners[addr] == listener {
			delete(n.listeners, addr)
		}
	})
}

func (n *testNet) client() *Client { return NewClient(ClientConfig{Dial: n.dial}) }

func hello() *linkpb.Hello {
	return &linkpb.Hello{VersionMin: 1, VersionMax: 1, ClusterId: "cluster", Agent: "agent", Incarnation: 7, Link: 1}
}

func question() *linkpb.Question {
	return &linkpb.Question{From: "me", Question: &linkpb.Question_Term{Term: &linkpb.Term{}}}
}

func beat(number uint64) *Up {
	return &Up{Frame: &linkpb.Up_Beat{Beat: &linkpb.Beat{Number: number}}}
}

func beatAnswer(number uint64) *Down {
	return &Down{Frame: &linkpb.Down_Beat{Beat: &linkpb.BeatAnswer{Number: number}}}
}

// large is a frame of about n bytes.
func large(n int) *Up {
	acquire := &command.Acquire{Lock: string(make([]byte, n))}
	return &Up{Frame: &linkpb.Up_Propose{Propose: &linkpb.Propose{Command: &command.Command{
		Kind: &command.Command_Acquire{Acquire: acquire}}}}}
}
