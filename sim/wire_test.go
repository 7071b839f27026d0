package sim

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"

	"github.com/raftlock/raftlock/agent"
	"github.com/raftlock/raftlock/agent/bootstrap"
	"github.com/raftlock/raftlock/consensus"
	"github.com/raftlock/raftlock/link"
)

// TestOnTheWire runs the agent on what production has between hosts: one port
// for Raft and links, gRPC, Raft's own network transport; only the bytes travel
// in memory. Three agents found a cluster, a lock changes hands, its holder's
// death frees it, and a new leader takes over.
func TestOnTheWire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &Cluster{W: New(t, setting(t, "RAFTLOCK_SEED", 1)), cfg: ClusterConfig{Voters: 3}}
		c.Pool, c.Checks = newPool(c.W), newChecks(c)
		wires := &wires{listeners: make(map[string]*pipeListener)}
		ports := make(map[*Member]*port)
		for i := range 3 {
			m := c.addMember(fmt.Sprintf("w%d", i+1))
			c.Voters = append(c.Voters, m)
			ports[m] = wires.start(m)
		}
		defer func() {
			for _, a := range c.Apps() {
				a.Kill()
				a.wait()
			}
			for _, p := range ports {
				p.stop()
			}
			wires.close()
			c.W.Close()
		}()

		first := c.WaitLeader(time.Minute)
		a := c.open(c.Voters[0], "a", 10*time.Second)
		b := c.open(c.Voters[1], "b", 10*time.Second)
		h := c.lock(a, "x")
		got := c.queue(context.Background(), b, "x")
		time.Sleep(30 * time.Second)
		if !h.Valid() {
			c.Fatal("not renewed over the wire")
		}
		a.Kill()
		h2 := c.take(got, time.Second)
		ports[first].stop()
		c.Wait(time.Minute, "another leader", func() bool { l := c.Leader(); return l != nil && l != first })
		if first != c.Voters[1] && !h2.Valid() {
			c.Fatal("lost when the leader stopped")
		}
	})
}

// port is one agent with its peer port.
type port struct {
	cancel context.CancelFunc
	client *link.Client
	all    sync.WaitGroup
	m      *Member
}

func (p *port) stop() {
	p.cancel()
	p.client.Close()
	p.all.Wait()
	p.m.Host.Crash()
}

func (w *wires) start(m *Member) *port {
	ctx, cancel := context.WithCancel(context.Background())
	listener := w.listen(m.Host.Addr())
	id, err := bootstrap.LoadServerID(smallFiles{m.Host.Disk.KV()}, randReader{m.c.W.Rand("wire-id/" + m.Host.Name)})
	m.c.must("server id", err)
	mux := link.NewMux(listener, id)
	client := link.NewClient(link.ClientConfig{Dial: w.dial})
	h, c := m.Host, m.c
	rng := c.W.Rand("wire/" + h.Name)
	cfg := agent.Config{
		Name: h.Name, Address: h.Addr(), Incarnation: rng.Uint64() | 1,
		Clock: h.Clock(), Wall: time.Now, Rand: randReader{rng},
		Network: client, Store: smallFiles{h.Disk.KV()},
		Open: func() (*agent.Stores, error) {
			return &agent.Stores{Logs: h.Disk.Logs(), Stable: h.Disk.Stable(), Snapshots: h.Disk.Snapshots()}, nil
		},
		Transport: func(raft.ServerID) raft.Transport {
			o := consensus.DefaultTransportOptions()
			o.Log = slog.New(slog.DiscardHandler)
			return consensus.NewTransport(&raftWire{Listener: mux.Raft(), wires: w}, o)
		},
		Bootstrap: bootstrap.DefaultConfig(), Consensus: consensus.DefaultConfig(), Log: c.logger(h),
	}
	cfg.Gossip = c.Pool.of(h, cfg.Incarnation, false)
	cfg.Bootstrap.Expect = 3
	cfg.Consensus.Observe = c.Checks.observer(h)
	a, err := agent.New(cfg)
	c.must("new agent", err)
	m.agent = a
	p := &port{cancel: cancel, client: client, m: m}
	p.all.Go(func() { _ = mux.Run(ctx) })
	p.all.Go(func() {
		if err := link.Serve(ctx, mux.Links(), a, link.ServerConfig{}); err != nil {
			c.W.Fail("serve: %v", err)
		}
	})
	p.all.Go(func() {
		if err := a.Run(ctx); err != nil {
			c.W.Fail("run: %v", err)
		}
	})
	return p
}

// wires are in-memory listeners by address.
type wires struct {
	mu        sync.Mutex // guards the rest
	listeners map[string]*pipeListener
	conns     []net.Conn
}

// close breaks every connection: Raft's transport leaves those it served open,
// as a process that exits may.
func (w *wires) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.conns {
		_ = c.Close()
	}
}

func (w *wires) listen(addr string) *pipeListener {
	l := &pipeListener{addr: addr, conns: make(chan net.Conn), closed: make(chan struct{})}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.listeners[addr] = l
	return l
}

func (w *wires) dial(ctx context.Context, addr string) (net.Conn, error) {
	w.mu.Lock()
	l := w.listeners[addr]
	w.mu.Unlock()
	if l == nil {
		return nil, ErrConnectionRefused
	}
	near, far := net.Pipe()
	select {
	case l.conns <- far:
		w.mu.Lock()
		w.conns = append(w.conns, near, far)
		w.mu.Unlock()
		return near, nil
	case <-l.closed:
		return nil, ErrConnectionRefused
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

type pipeListener struct {
	addr   string
	conns  chan net.Conn
	once   sync.Once
	closed chan struct{}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *pipeListener) Addr() net.Addr { return wireAddr(l.addr) }

type wireAddr string

func (wireAddr) Network() string  { return "wire" }
func (a wireAddr) String() string { return string(a) }

// raftWire is Raft's stream layer on its half of the port.
type raftWire struct {
	net.Listener
	wires *wires
}

func (r *raftWire) Dial(server raft.ServerID, addr string, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	c, err := link.DialRaft(ctx, r.wires.dial, addr, string(server))
	if err != nil {
		return nil, errors.Join(err, ErrConnectionRefused)
	}
	return c, nil
}
