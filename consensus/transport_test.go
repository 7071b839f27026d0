package consensus

import (
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// pipes is a network of net.Pipe connections, for the library's own transport
// in a bubble.
type pipes struct {
	mu        sync.Mutex
	listeners map[raft.ServerAddress]*pipeListener
}

func (p *pipes) listen(addr raft.ServerAddress) *pipeListener {
	l := &pipeListener{pipes: p, addr: addr, conns: make(chan net.Conn), closed: make(chan struct{})}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.listeners == nil {
		p.listeners = make(map[raft.ServerAddress]*pipeListener)
	}
	p.listeners[addr] = l
	return l
}

// pipeListener is a raft.StreamLayer.
type pipeListener struct {
	*pipes
	addr   raft.ServerAddress
	conns  chan net.Conn
	once   sync.Once
	closed chan struct{}

	mu   sync.Mutex
	open []net.Conn
}

func (l *pipeListener) Network() string { return "pipe" }
func (l *pipeListener) String() string  { return string(l.addr) }
func (l *pipeListener) Addr() net.Addr  { return l }

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close ends all connections too: the library leaves idle ones to the reader at
// the other end.
func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.open {
		_ = c.Close()
	}
	return nil
}

func (l *pipeListener) Dial(_ ServerID, to string, timeout time.Duration) (net.Conn, error) {
	l.pipes.mu.Lock()
	peer := l.listeners[raft.ServerAddress(to)]
	l.pipes.mu.Unlock()
	if peer == nil {
		return nil, errCut
	}
	here, there := net.Pipe()
	select {
	case peer.conns <- there:
		l.keep(here)
		peer.keep(there)
		return here, nil
	case <-peer.closed:
		return nil, errCut
	case <-time.After(timeout):
		return nil, errCut
	}
}

func (l *pipeListener) keep(c net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open = append(l.open, c)
}

// gated is the library's transport with a say in what it sends.
type gated struct {
	*Transport
	gate *gate
}

type gate struct {
	mu    sync.Mutex
	allow func(from, to raft.ServerAddress, request any) bool
}

func (g *gate) set(allow func(from, to raft.ServerAddress, request any) bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.allow = allow
}

func (t gated) refuses(to raft.ServerAddress, q any) error {
	t.gate.mu.Lock()
	allow := t.gate.allow
	t.gate.mu.Unlock()
	if allow != nil && !allow(t.LocalAddr(), to, q) {
		return errCut
	}
	return nil
}

func (t gated) AppendEntries(id raft.ServerID, to raft.ServerAddress, q *raft.AppendEntriesRequest, a *raft.AppendEntriesResponse) error {
	if err := t.refuses(to, q); err != nil {
		return err
	}
	return t.Transport.AppendEntries(id, to, q, a)
}

func (t gated) RequestVote(id raft.ServerID, to raft.ServerAddress, q *raft.RequestVoteRequest, a *raft.RequestVoteResponse) error {
	if err := t.refuses(to, q); err != nil {
		return err
	}
	return t.Transport.RequestVote(id, to, q, a)
}

func (t gated) RequestPreVote(id raft.ServerID, to raft.ServerAddress, q *raft.RequestPreVoteRequest, a *raft.RequestPreVoteResponse) error {
	if err := t.refuses(to, q); err != nil {
		return err
	}
	return t.Transport.RequestPreVote(id, to, q, a)
}

// list is a state machine that remembers what was applied.
type list struct {
	mu      sync.Mutex
	applied []string
}

func (l *list) Apply(e *raft.Log) any {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.applied = append(l.applied, fmt.Sprintf("%d %s", e.Index, e.Data))
	return nil
}

func (l *list) get() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.applied)
}

func (l *list) Snapshot() (raft.FSMSnapshot, error) { return nil, io.ErrUnexpectedEOF }
func (l *list) Restore(io.ReadCloser) error         { return io.ErrUnexpectedEOF }

// TestHeartbeatsTakeTheSlowPath is hashicorp/raft#695 on the library's own
// transport: a leader that was cut off (with a long lease, as if it had been
// paused before looking at it) hears one heartbeat of its successor while its
// main loop waits, and then a client. On the library alone that stores the
// client's entry under the successor's term, and state machines differ for
// ever. When the first half fails, the library was mended, and slowPath may go.
func TestHeartbeatsTakeTheSlowPath(t *testing.T) {
	tests := []struct {
		name     string
		wrap     func(raft.Transport) raft.Transport
		diverges bool
	}{
		{"library alone", func(t raft.Transport) raft.Transport { return t }, true},
		{"ours", func(t raft.Transport) raft.Transport { return slowPath{preVoting: t.(preVoting)} }, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) { successorsHeartbeat(t, tt.wrap, tt.diverges) })
		})
	}
}

func successorsHeartbeat(t *testing.T, wrap func(raft.Transport) raft.Transport, diverges bool) {
	gate := &gate{}
	c := newBare(t, func(l *pipeListener) raft.Transport {
		o := DefaultTransportOptions()
		o.Log = testLog()
		return wrap(gated{NewTransport(l, o), gate})
	}, func(i int, cfg *raft.Config) {
		if i == 0 {
			cfg.HeartbeatTimeout, cfg.ElectionTimeout, cfg.LeaderLeaseTimeout = 10*time.Second, 10*time.Second, 10*time.Second
		}
	})
	defer func() {
		gate.set(func(_, _ raft.ServerAddress, _ any) bool { return false })
		c.close()
	}()
	nodes, lists := c.nodes, c.lists
	// Node 0, with its long lease, is made the leader.
	if first := c.lead(-1); first != 0 {
		if err := nodes[first].LeadershipTransferToServer("0", "0").Error(); err != nil {
			t.Fatal(err)
		}
		c.lead(first)
	}
	c.apply(0, "first")
	time.Sleep(time.Second)

	gate.set(func(from, to raft.ServerAddress, _ any) bool { return from != "0" && to != "0" })
	next := c.lead(0)
	for _, s := range []string{"a", "b", "c"} {
		c.apply(next, s)
	}
	if nodes[0].State() != raft.Leader {
		t.Fatal("the old leader knows already: nothing is shown")
	}
	// Of all that is sent to it, only heartbeats arrive.
	gate.set(func(from, to raft.ServerAddress, q any) bool {
		return from != "0" && (to != "0" || isHeartbeat(q))
	})
	until(t, "it hears its successor", func() bool { return nodes[0].CurrentTerm() == nodes[next].CurrentTerm() })
	for _, s := range []string{"x", "y", "z"} {
		go func() { _ = nodes[0].Apply([]byte(s), time.Second).Error() }()
	}
	time.Sleep(100 * time.Millisecond)
	gate.set(nil)
	time.Sleep(10 * time.Second)
	c.apply(c.lead(-1), "last")
	time.Sleep(time.Second)
	if got := !slices.Equal(lists[0].get(), lists[next].get()); got != diverges {
		t.Errorf("replicas differ: %v, want %v\n%v\n%v", got, diverges, lists[0].get(), lists[next].get())
	}
}

// TestNoHandlerNoPipeline looks at the wrapper itself, over TCP: a heartbeat is
// handed to raft's main loop like anything else, whatever handler raft sets.
func TestNoHandlerNoPipeline(t *testing.T) {
	open := func(o TransportOptions) *Transport {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		o.Log = testLog()
		tr := NewTransport(tcpLayer{l}, o)
		t.Cleanup(func() { _ = tr.Close() })
		return tr
	}
	to := open(DefaultTransportOptions())
	o := DefaultTransportOptions()
	o.Address = func(id ServerID) (string, bool) { return string(to.LocalAddr()), id == "moved" }
	from := open(o)

	ours := slowPath{preVoting: to}
	ours.SetHeartbeatHandler(func(raft.RPC) { t.Error("a heartbeat took the fast path") })
	for _, id := range []raft.ServerID{"moved", "there"} {
		answered := make(chan error, 1)
		addr := to.LocalAddr()
		if id == "moved" {
			addr = "127.0.0.1:1" // where nobody is
		}
		go func() {
			var a raft.AppendEntriesResponse
			answered <- from.AppendEntries(id, addr, &raft.AppendEntriesRequest{
				RPCHeader: raft.RPCHeader{Addr: []byte("x")}, Term: 7,
			}, &a)
		}()
		select {
		case rpc := <-ours.Consumer():
			if !isHeartbeat(rpc.Command) {
				t.Errorf("got %T", rpc.Command)
			}
			rpc.Respond(&raft.AppendEntriesResponse{}, nil)
		case err := <-answered:
			t.Fatalf("%s: not delivered: %v", id, err)
		}
		if err := <-answered; err != nil {
			t.Errorf("%s: %v", id, err)
		}
	}
	for name, tr := range map[string]raft.Transport{"wrapped": ours, "bare": from} {
		if _, err := tr.AppendEntriesPipeline("there", to.LocalAddr()); err != raft.ErrPipelineReplicationNotSupported {
			t.Errorf("%s transport pipelines: %v", name, err)
		}
	}
	if _, ok := raft.Transport(ours).(raft.WithPreVote); !ok {
		t.Error("pre-vote is lost")
	}
	if _, ok := raft.Transport(ours).(raft.WithClose); !ok {
		t.Error("raft cannot close the transport")
	}
}

// A hint that leads nowhere keeps nobody away: the address in Raft's
// configuration is tried in turn.
func TestWrongHintKeepsNobodyAway(t *testing.T) {
	asked := make(map[raft.ServerAddress]int)
	o := DefaultTransportOptions()
	o.Log = testLog()
	hint := "nowhere"
	o.Address = func(ServerID) (string, bool) { return hint, true }
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	tr := NewTransport(tcpLayer{l}, o)
	t.Cleanup(func() { _ = tr.Close() })
	call := func(right string) {
		_ = tr.reach("1", "here", func(to raft.ServerAddress) error {
			asked[to]++
			if string(to) != "1@"+right {
				return ErrUnknown
			}
			return nil
		})
	}
	for range 10 {
		call("here")
	}
	if asked["1@nowhere"] != 1 || asked["1@here"] != 9 {
		t.Errorf("asked %v", asked)
	}
	hint = "there" // it moved, and the configured address is of the past
	for range 10 {
		call("there")
	}
	if asked["1@here"] != 10 || asked["1@there"] != 9 {
		t.Errorf("asked %v", asked)
	}
}

type tcpLayer struct{ net.Listener }

func (tcpLayer) Dial(_ ServerID, to string, timeout time.Duration) (net.Conn, error) {
	return net.DialTimeout("tcp", to, timeout)
}
