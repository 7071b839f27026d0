package link

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/raftlock/raftlock/internal/mutant"
)

// preamble opens each connection of Raft; a byte that counts and as many bytes
// of server id follow. No gRPC connection starts like that: HTTP/2 starts with
// "PRI ", TLS with the byte 22. It comes before TLS, which either side may put
// on top of what Mux and DialRaft return.
var preamble = [4]byte{'r', 'f', 't', 1}

// ErrServerID: a server id that no preamble can carry.
var ErrServerID = errors.New("a server id has 1 to 255 bytes")

// DialRaft connects to the Raft half of the peer port at addr, for that server
// and no other: addresses are reused, and Raft does not look whom it talks to.
// Another server closes the connection; the first read tells.
func DialRaft(ctx context.Context, dial DialFunc, addr, server string) (net.Conn, error) {
	if len(server) == 0 || len(server) > 255 {
		return nil, fmt.Errorf("dial raft at %s: %w", addr, ErrServerID)
	}
	opening := append(append(preamble[:], byte(len(server))), server...)
	conn, err := dial(ctx, addr)
	if err != nil {
		return nil, fmt.Errorf("dial raft at %s: %w", addr, err)
	}
	deadline := time.Now().Add(helloTimeout)
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	_ = conn.SetWriteDeadline(deadline)
	// A cancelled ctx makes the write fail now.
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	_, err = conn.Write(opening)
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("dial raft at %s: %w", addr, err)
	}
	_ = conn.SetWriteDeadline(time.Time{})
	return conn, nil
}

// Mux shares one listener between Raft and gRPC, by a connection's first four
// bytes. A connection that does not send them in time is closed; when too many
// have not, the one that has been silent longest, so that a crowd of silent
// ones keeps nobody out who speaks. A connection of Raft that is meant for
// another server is closed.
type Mux struct {
	listener net.Listener
	server   string
	raft     *half
	links    *half

	// mu guards undecided, oldest first.
	mu        sync.Mutex
	undecided []net.Conn
}

// NewMux takes over listener, which Run closes, for the server of that id.
func NewMux(listener net.Listener, server string) *Mux {
	return &Mux{listener: listener, server: server, raft: newHalf(listener.Addr()), links: newHalf(listener.Addr())}
}

// Raft accepts the connections that DialRaft made, behind their preamble.
// Closing it closes only this half.
func (m *Mux) Raft() net.Listener { return m.raft }

// Links accepts all others, for Serve. Closing it closes only this half.
func (m *Mux) Links() net.Listener { return m.links }

// Run accepts and sorts connections until ctx ends (then it returns nil) or
// the listener fails. It closes the listener, both halves and whatever nobody
// accepted, and returns after its goroutines have. Accepted connections are
// their acceptors' own.
func (m *Mux) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	running.Go(func() {
		<-ctx.Done()
		_ = m.listener.Close()
		m.abandon()
	})
	err := m.accept(ctx, &running)
	if ctx.Err() != nil {
		err = nil
	}
	cancel()
	running.Wait()
	_ = m.raft.Close()
	_ = m.links.Close()
	return err
}

func (m *Mux) accept(ctx context.Context, running *sync.WaitGroup) error {
	pause := 5 * time.Millisecond
	for {
		conn, err := m.listener.Accept()
		var temporary net.Error
		if errors.As(err, &temporary) && temporary.Timeout() || isOutOfFiles(err) {
			// Connections of others will end; until then there is no file.
			if !wait(ctx, pause) {
				return nil
			}
			pause = min(2*pause, time.Second)
			continue
		}
		if err != nil {
			return fmt.Errorf("accept peers: %w", err)
		}
		pause = 5 * time.Millisecond
		if !m.enter(ctx, conn) {
			return nil
		}
		running.Go(func() { m.sort(conn) })
	}
}

// wait reports false if ctx ended first.
func wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// enter counts a connection as undecided; false after ctx ended, when abandon
// may have been here already.
func (m *Mux) enter(ctx context.Context, conn net.Conn) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if ctx.Err() != nil {
		_ = conn.Close()
		return false
	}
	if len(m.undecided) >= undecidedMax {
		// Its goroutine is blocked in a read, sees this and ends.
		_ = m.undecided[0].Close()
		m.undecided = m.undecided[1:]
	}
	m.undecided = append(m.undecided, conn)
	return true
}

func (m *Mux) leave(conn net.Conn) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, c := range m.undecided {
		if c == conn {
			m.undecided = append(m.undecided[:i], m.undecided[i+1:]...)
			return
		}
	}
}

func (m *Mux) abandon() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, c := range m.undecided {
		_ = c.Close()
	}
}

func (m *Mux) sort(conn net.Conn) {
	var first [len(preamble)]byte
	_ = conn.SetReadDeadline(time.Now().Add(helloTimeout))
	_, err := io.ReadFull(conn, first[:])
	if err == nil && first == preamble {
		err = m.meant(conn)
	}
	m.leave(conn)
	if err == nil {
		err = conn.SetReadDeadline(time.Time{})
	}
	switch {
	case err != nil:
		_ = conn.Close()
	case first == preamble:
		m.raft.offer(conn)
	default:
		m.links.offer(&unread{Conn: conn, bytes: first[:]})
	}
}

// errMeant: the connection is meant for another server.
var errMeant = errors.New("meant for another server")

// meant reads which server a connection of Raft wants.
func (m *Mux) meant(conn net.Conn) error {
	var id [255]byte
	if _, err := io.ReadFull(conn, id[:1]); err != nil {
		return err
	}
	wanted := id[:id[0]]
	if _, err := io.ReadFull(conn, wanted); err != nil {
		return err
	}
	if string(wanted) != m.server && !mutant.On("link-raft-server") {
		return errMeant
	}
	return nil
}

// half is one protocol's listener.
type half struct {
	addr    net.Addr
	backlog chan net.Conn

	// mu guards open, and that nothing enters the backlog when it is not.
	mu     sync.Mutex
	open   bool
	closed chan struct{}
}

func newHalf(addr net.Addr) *half {
	return &half{addr: addr, backlog: make(chan net.Conn, backlogMax), open: true, closed: make(chan struct{})}
}

// offer never blocks: a half that nobody accepts from refuses.
func (h *half) offer(conn net.Conn) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.open {
		select {
		case h.backlog <- conn:
			return
		default:
		}
	}
	_ = conn.Close()
}

// Accept implements net.Listener.
func (h *half) Accept() (net.Conn, error) {
	select {
	case <-h.closed:
		return nil, net.ErrClosed
	default:
	}
	select {
	case conn := <-h.backlog:
		return conn, nil
	case <-h.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (h *half) Close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.open {
		return nil
	}
	h.open = false
	close(h.closed)
	for {
		select {
		case conn := <-h.backlog:
			_ = conn.Close()
		default:
			return nil
		}
	}
}

// Addr implements net.Listener.
func (h *half) Addr() net.Addr { return h.addr }

// unread gives back what was read of a connection before it was decided.
type unread struct {
	net.Conn
	bytes []byte
}

func (u *unread) Read(p []byte) (int, error) {
	if len(u.bytes) == 0 {
		return u.Conn.Read(p)
	}
	n := copy(p, u.bytes)
	u.bytes = u.bytes[n:]
	return n, nil
}
