package sim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/raft"
	"go.opentelemetry.io/otel/trace"

	"github.com/raftlock/raftlock/agent"
	"github.com/raftlock/raftlock/agent/bootstrap"
	"github.com/raftlock/raftlock/consensus"
	"github.com/raftlock/raftlock/fsm"
)

// ClusterConfig is what a Cluster is made of.
type ClusterConfig struct {
	// Voters is how many agents found the cluster (--expect); Forwarders how
	// many more there are that never vote.
	Voters, Forwarders int
	// CheckEvery: the whole state is checked after every so manyth entry; 0:
	// after each. For stories whose state is large.
	CheckEvery uint64
	// Consensus may change the template of every agent's Raft.
	Consensus func(*consensus.Config)
	// Traces records the spans of every agent and application; nil: nobody does.
	Traces trace.TracerProvider
}

// Cluster is a World with the agent that ships on every host.
type Cluster struct {
	W    *World
	Pool *Pool
	cfg  ClusterConfig

	Voters, Forwarders []*Member
	Checks             *Checks

	mu   sync.Mutex // guards apps
	apps []*App
}

// Member is one host's agent, through all its incarnations.
type Member struct {
	Host *Host
	c    *Cluster

	mu    sync.Mutex // guards the rest
	agent *agent.Agent
	done  chan struct{} // closed when the newest incarnation's Run has returned
}

// NewCluster makes the hosts and starts every agent. It does not wait for a
// leader: WaitLeader does.
func NewCluster(w *World, cfg ClusterConfig) *Cluster {
	c := &Cluster{W: w, cfg: cfg, Pool: newPool(w)}
	c.Checks = newChecks(c)
	for i := range cfg.Voters {
		c.Voters = append(c.Voters, c.addMember(fmt.Sprintf("v%d", i+1)))
	}
	for i := range cfg.Forwarders {
		c.Forwarders = append(c.Forwarders, c.addMember(fmt.Sprintf("f%d", i+1)))
	}
	w.OnRestart(func(h *Host) {
		c.Checks.disturb(0)
		for _, m := range c.Members() {
			if m.Host == h {
				m.start()
			}
		}
	})
	w.OnKillApp(func(f *Frame) {
		// A stream's frames are of the kind "NAME/..." and "NAME-down/...".
		name, _, _ := strings.Cut(f.Kind, "/")
		for _, a := range c.Apps() {
			if a.Name == strings.TrimSuffix(name, "-down") {
				a.Kill()
			}
		}
	})
	for _, m := range c.Members() {
		m.start()
	}
	return c
}

func (c *Cluster) addMember(name string) *Member {
	done := make(chan struct{})
	close(done)
	return &Member{Host: c.W.AddHost(name), c: c, done: done}
}

// Members are all agents: voters, then forwarders.
func (c *Cluster) Members() []*Member {
	return append(append([]*Member(nil), c.Voters...), c.Forwarders...)
}

// Agent is the member's agent now; of a crashed host, the dead one.
func (m *Member) Agent() *agent.Agent {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.agent
}

// forwards reports whether the member was made to never vote.
func (m *Member) forwards() bool {
	for _, f := range m.c.Forwarders {
		if f == m {
			return true
		}
	}
	return false
}

// start builds the agent of the host's current incarnation and runs it.
func (m *Member) start() {
	h, c := m.Host, m.c
	rng := c.W.Rand(fmt.Sprintf("agent/%s/%d", h.Name, h.Incarnation()))
	incarnation := rng.Uint64() | 1
	kv := h.Disk.KV()
	seat := c.Pool.of(h, incarnation, m.forwards())
	cfg := agent.Config{
		Name: h.Name, Address: h.Addr(), Incarnation: incarnation,
		Clock: h.Clock(), Wall: time.Now, Rand: randReader{rng},
		Network: h.Network(), Gossip: seat, Store: smallFiles{kv},
		Open: func() (*agent.Stores, error) {
			return &agent.Stores{Logs: h.Disk.Logs(), Stable: h.Disk.Stable(), Snapshots: h.Disk.Snapshots()}, nil
		},
		Transport: func(server raft.ServerID) raft.Transport { return h.TransportVia(server, seat.Address) },
		Bootstrap: bootstrap.DefaultConfig(),
		Consensus: consensus.DefaultConfig(),
		Log:       c.logger(h),
		Gone:      m.gone,

		TracerProvider: c.cfg.Traces,
	}
	cfg.Bootstrap.Expect, cfg.Bootstrap.Forwarder = c.cfg.Voters, m.forwards()
	cfg.Consensus.Observe = c.Checks.observer(h)
	if c.cfg.Consensus != nil {
		c.cfg.Consensus(&cfg.Consensus)
	}
	ctx := h.Context()
	a, err := agent.New(cfg)
	if err != nil {
		if !errors.Is(err, ErrIO) && !errors.Is(err, ErrNoSpace) && ctx.Err() == nil {
			c.W.Fail("%s: new agent: %v", h.Name, err)
		}
		m.supervise(ctx, err)
		return
	}
	done := make(chan struct{})
	m.mu.Lock()
	before := m.done
	m.agent, m.done = a, done
	m.mu.Unlock()
	h.Serve(a)
	go func() {
		defer close(done)
		err := a.Run(ctx)
		<-before // an older incarnation may still be on its way out
		if err != nil {
			m.supervise(ctx, err)
		}
	}()
}

// supervise is what follows when the process exits by itself (fail-stop): its
// supervisor starts it again.
func (m *Member) supervise(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	m.c.W.Logf("%s: agent stopped: %v", m.Host.Name, err)
	m.c.Checks.count("fail-stops")
	m.c.Checks.disturb(0)
	m.Host.Crash()
	m.Host.RestartAfter(time.Second)
}

// logger writes what agents log into the history.
func (c *Cluster) logger(h *Host) *slog.Logger {
	return slog.New(watchful{c, h, slog.NewTextHandler(historyWriter{c.W, h}, &slog.HandlerOptions{
		Level: slog.LevelInfo,
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		},
	})})
}

// watchful looks for what agents tell the checkers by their logs: who leads a
// term, and that a link was made.
type watchful struct {
	c *Cluster
	h *Host
	slog.Handler
}

func (l watchful) WithAttrs(attrs []slog.Attr) slog.Handler {
	return watchful{l.c, l.h, l.Handler.WithAttrs(attrs)}
}

func (l watchful) Handle(ctx context.Context, r slog.Record) error {
	switch r.Message {
	case "leading":
		r.Attrs(func(a slog.Attr) bool {
			if a.Key == "term" {
				l.c.W.Leader(a.Value.Uint64(), l.h)
			}
			return true
		})
	case "linked":
		r.Attrs(func(a slog.Attr) bool {
			if a.Key == "term" {
				l.c.Checks.linked(l.h, a.Value.Uint64())
			}
			return true
		})
	}
	return l.Handler.Handle(ctx, r)
}

type historyWriter struct {
	w *World
	h *Host
}

func (w historyWriter) Write(p []byte) (int, error) {
	w.w.Logf("%s: %s", w.h.Name, p)
	return len(p), nil
}

// randReader draws bytes from a seeded stream.
type randReader struct{ r *rand.Rand }

func (r randReader) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(r.r.Uint32())
	}
	return len(p), nil
}

var _ io.Reader = randReader{}

// smallFiles is a disk's KV as bootstrap.Store wants it: absent is nil.
type smallFiles struct{ bootstrap.Store }

func (s smallFiles) Load(key string) ([]byte, error) {
	v, err := s.Store.Load(key)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return v, err
}

// Leader is the member that leads with the highest term, or nil.
func (c *Cluster) Leader() *Member {
	var best *Member
	var term uint64
	for _, m := range c.Voters {
		a := m.Agent()
		if a == nil || !m.Host.Up() {
			continue
		}
		if n := a.Node(); n != nil && a.Leading() && n.Term() > term {
			best, term = m, n.Term()
		}
	}
	return best
}

// WaitLeader waits in virtual time until some member leads, or fails.
func (c *Cluster) WaitLeader(within time.Duration) *Member {
	var l *Member
	c.Wait(within, "a leader", func() bool { l = c.Leader(); return l != nil })
	return l
}

// Wait polls in virtual time until cond holds, or fails naming what.
func (c *Cluster) Wait(within time.Duration, what string, cond func() bool) {
	end := c.W.Now() + within
	for !cond() {
		if c.W.Now() > end {
			c.Fatal("no %s within %v", what, within)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// Fatal fails the test with the seed and the history, and ends it. It must be
// called from the test's own goroutine.
func (c *Cluster) Fatal(format string, args ...any) {
	c.W.Fail(format, args...)
	c.W.tb.FailNow()
}

// Close ends applications and agents, in that order, and then the world.
func (c *Cluster) Close() {
	c.W.OnFrame(nil)
	c.W.Net.Heal()
	for _, a := range c.Apps() {
		a.Kill()
		a.wait()
	}
	for _, m := range c.Members() {
		m.Host.PowerOff()
	}
	for _, m := range c.Members() {
		m.mu.Lock()
		done := m.done
		m.mu.Unlock()
		<-done
	}
	c.W.Close()
}

// Inspect calls f with the state of m's replica, if it has one.
func (m *Member) Inspect(f func(*fsm.State)) bool {
	a := m.Agent()
	if a == nil || a.Node() == nil || !m.Host.Up() {
		return false
	}
	a.Node().Inspect(f)
	return true
}
