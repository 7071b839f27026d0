package sim

import (
	"encoding/binary"
	"encoding/hex"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// bare is a cluster of raft nodes with nothing around them.
type bare struct {
	w     *World
	hosts []*Host
	tune  func(*Host, *raft.Config)
	// fastPath lets raft have its heartbeat handler, and with it
	// hashicorp/raft#695.
	fastPath bool

	mu    sync.Mutex // guards nodes
	nodes map[*Host]*node
	wg    sync.WaitGroup
}

type node struct {
	raft  *raft.Raft
	chain *chain
}

// chain is a state machine: a hash over all entries.
type chain struct {
	w     *World
	h     *Host
	alive func() bool

	mu    sync.Mutex // guards the rest
	sum   uint64
	index uint64
}

func (c *chain) Apply(l *raft.Log) any {
	c.mu.Lock()
	h := fnv.New64a()
	_ = binary.Write(h, binary.BigEndian, c.sum)
	h.Write(l.Data)
	c.sum, c.index = h.Sum64(), l.Index
	sum := c.text()
	c.mu.Unlock()
	if c.alive() {
		c.w.Applied(c.h, l.Index, sum, l.Data)
	}
	return nil
}

func (c *chain) text() string {
	return hex.EncodeToString(binary.BigEndian.AppendUint64(nil, c.sum))
}

func (c *chain) at() (uint64, uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.index, c.sum
}

func (c *chain) Snapshot() (raft.FSMSnapshot, error) {
	index, sum := c.at()
	return frozen{index, sum}, nil
}

func (c *chain) Restore(r io.ReadCloser) error {
	var f [2]uint64
	if err := binary.Read(r, binary.BigEndian, &f); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.index, c.sum = f[0], f[1]
	return nil
}

type frozen [2]uint64

func (f frozen) Persist(s raft.SnapshotSink) error {
	if err := binary.Write(s, binary.BigEndian, f); err != nil {
		_ = s.Cancel()
		return err
	}
	return s.Close()
}

func (f frozen) Release() {}

func newBare(w *World, n int) *bare {
	b := &bare{w: w, nodes: map[*Host]*node{}}
	b.boot(n)
	return b
}

// boot adds the hosts and starts their nodes.
func (b *bare) boot(n int) {
	w := b.w
	for i := range n {
		b.hosts = append(b.hosts, w.AddHost(string(rune('a'+i))))
	}
	w.OnRestart(b.start)
	for _, h := range b.hosts {
		h.Disk.StableCrashes(true)
	}
	for _, h := range b.hosts {
		b.start(h)
	}
}

// plain has no heartbeat fast path, as the product's transport.
type plain struct{ *transport }

func (plain) SetHeartbeatHandler(func(raft.RPC)) {}

// start runs a node on the host's current incarnation, until that ends.
func (b *bare) start(h *Host) {
	ctx := h.Context()
	config := raft.DefaultConfig()
	config.LocalID = raft.ServerID(h.Name)
	config.SnapshotInterval, config.SnapshotThreshold, config.TrailingLogs = time.Second, 16, 8
	config.NoLegacyTelemetry = true
	config.Logger = hclog.NewNullLogger()
	if b.tune != nil {
		b.tune(h, config)
	}
	logs, stable, snapshots, trans := h.Disk.Logs(), h.Disk.Stable(), h.Disk.Snapshots(), h.Transport()
	if !b.fastPath {
		trans = plain{trans.(*transport)}
	}
	known, err := raft.HasExistingState(logs, stable, snapshots)
	if err == nil && !known {
		err = raft.BootstrapCluster(config, logs, stable, snapshots, trans, b.configuration())
	}
	c := &chain{w: b.w, h: h, alive: func() bool { return ctx.Err() == nil }}
	var r *raft.Raft
	if err == nil {
		r, err = raft.NewRaft(config, c, logs, stable, snapshots, trans)
	}
	if err != nil {
		if ctx.Err() == nil {
			b.w.Fail("%s: start: %v", h, err)
		}
		return
	}
	r.RegisterObserver(raft.NewObserver(nil, false, func(o *raft.Observation) bool {
		if o.Data == raft.Leader && ctx.Err() == nil {
			b.w.Leader(o.Raft.CurrentTerm(), h)
		}
		return false
	}))
	b.mu.Lock()
	b.nodes[h] = &node{r, c}
	b.mu.Unlock()
	b.wg.Go(func() {
		<-ctx.Done()
		_ = r.Shutdown().Error()
	})
}

func (b *bare) configuration() raft.Configuration {
	var c raft.Configuration
	for _, h := range b.hosts {
		c.Servers = append(c.Servers, raft.Server{ID: raft.ServerID(h.Name), Address: raft.ServerAddress(h.Addr())})
	}
	return c
}

func (b *bare) node(h *Host) *node {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.nodes[h]
}

// leader is who leads the highest term, or nil.
func (b *bare) leader() *Host {
	var best *Host
	for _, h := range b.hosts {
		n := b.node(h)
		if h.Up() && n.raft.State() == raft.Leader &&
			(best == nil || n.raft.CurrentTerm() > b.node(best).raft.CurrentTerm()) {
			best = h
		}
	}
	return best
}

func (b *bare) awaitLeader(within time.Duration) *Host {
	for end := b.w.Now() + within; b.w.Now() < end; time.Sleep(10 * time.Millisecond) {
		if l := b.leader(); l != nil {
			return l
		}
	}
	b.w.Fail("no leader within %v", within)
	return b.hosts[0]
}

// apply proposes at the leader, if there is one, and does not wait.
func (b *bare) apply(data []byte) {
	if l := b.leader(); l != nil {
		b.node(l).raft.Apply(data, time.Second)
	}
}

// settle heals everything and waits until all replicas are equal.
func (b *bare) settle() {
	b.w.Net.Heal()
	b.w.Net.SetLoss(0)
	for _, h := range b.hosts {
		h.Disk.FailWrites(0)
		h.Resume()
		if !h.Up() {
			h.Restart()
		}
	}
	b.w.Net.SetStragglers(0, 0)
	for end := b.w.Now() + time.Minute; b.w.Now() < end; {
		b.apply([]byte("settle"))
		time.Sleep(time.Second)
		if b.equal() {
			return
		}
	}
	for _, h := range b.hosts {
		b.w.Logf("%s: up %v, %v", h, h.Up(), b.node(h).raft.Stats())
	}
	b.w.Fail("the replicas do not become equal")
}

func (b *bare) equal() bool {
	i0, s0 := b.node(b.hosts[0]).chain.at()
	for _, h := range b.hosts[1:] {
		if i, s := b.node(h).chain.at(); i != i0 || s != s0 {
			return false
		}
	}
	return b.leader() != nil && i0 > 0
}

func (b *bare) close() {
	b.w.Close()
	b.wg.Wait()
}

// TestBareRaft runs five raft nodes through random faults of every sort.
func TestBareRaft(t *testing.T) {
	met := map[string]uint64{}
	terms := 0
	for seed := range uint64(10) {
		synctest.Test(t, func(t *testing.T) {
			w := New(t, seed)
			b := newBare(w, 5)
			w.Net.SetLoss(0.01)
			w.Net.SetStragglers(0.02, 300*time.Millisecond)
			b.awaitLeader(20 * time.Second)
			r := w.Rand("chaos")
			for range 12 {
				b.fault(r)
				for range 10 {
					b.apply([]byte{byte(r.Uint32())})
					time.Sleep(time.Duration(r.Int64N(int64(300 * time.Millisecond))))
				}
				if r.IntN(2) == 0 {
					w.Net.Heal()
				}
			}
			b.settle()
			if index, _ := b.node(b.hosts[0]).chain.at(); index < 30 {
				w.Fail("only %d entries were applied", index)
			}
			b.close()
			terms += w.Terms()
			for kind, n := range w.FrameCounts() {
				met[kind] += n
			}
		})
	}
	for _, kind := range []string{
		"AppendEntries", "AppendEntries-reply", "Heartbeat", "RequestVote", "RequestPreVote",
	} {
		if met["raft/"+kind] == 0 {
			t.Errorf("no run met %s", kind)
		}
	}
	if terms < 20 {
		t.Errorf("only %d terms had a leader", terms)
	}
}

// TestInstallSnapshot: a follower that was away for longer than the log goes
// back, and lost its leader's first try, catches up by a snapshot.
func TestInstallSnapshot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := New(t, 1)
		hook, hit := At("raft/InstallSnapshot a->b #1", Cut)
		w.OnFrame(func(f *Frame) Action { // whoever leads, whoever was away
			named := *f
			named.From, named.To = "a", "b"
			return hook(&named)
		})
		b := newBare(w, 3)
		leader := b.awaitLeader(20 * time.Second)
		away := b.hosts[0]
		if away == leader {
			away = b.hosts[1]
		}
		away.Crash()
		for range 60 {
			b.apply([]byte("x"))
			time.Sleep(100 * time.Millisecond)
		}
		away.Restart()
		b.settle()
		same(t, "the first snapshot was cut", hit(), true)
		if met := w.FrameCounts(); met["raft/InstallSnapshot"] < 2 {
			t.Errorf("no second try: %v", met)
		}
		b.close()
	})
}

// fault does one random thing to the cluster, more often to its leader.
func (b *bare) fault(r *rand.Rand) {
	i := r.IntN(len(b.hosts))
	victim, other := b.hosts[i], b.hosts[(i+1+r.IntN(len(b.hosts)-1))%len(b.hosts)]
	if l := b.leader(); l != nil && r.IntN(2) == 0 {
		victim = l
	}
	some := time.Duration(r.Int64N(int64(3 * time.Second)))
	switch r.IntN(10) {
	case 0:
		b.w.Net.Isolate(victim)
	case 1:
		b.w.Net.Partition([]*Host{victim, other})
	case 2:
		b.w.Net.Cut(victim, other)
	case 3:
		victim.Pause()
		time.AfterFunc(some, victim.Resume)
	case 4:
		victim.Crash()
		victim.RestartAfter(some)
	case 5:
		victim.PowerOff()
		victim.RestartAfter(some)
	case 6:
		victim.Disk.Stall(some)
	case 7:
		b.w.Net.HoldTo(victim, b.w.Now()+some)
	case 8:
		b.w.Net.Mute(victim)
	case 9:
		victim.Disk.FailWrites(0.01)
	}
}
