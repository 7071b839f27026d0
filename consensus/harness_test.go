package consensus

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
	"google.golang.org/protobuf/proto"

	"github.com/raftlock/raftlock/fsm"
	"github.com/raftlock/raftlock/fsm/command"
)

var errCut = errors.New("cut off")

// network joins memTransports. All of it lives in one bubble.
type network struct {
	latency time.Duration
	timeout time.Duration
	// fast hands heartbeats to the handler in a goroutine of the transport, as
	// the library's network transport does.
	fast bool

	mu    sync.Mutex
	ends  map[raft.ServerAddress]*memTransport
	cuts  map[[2]raft.ServerAddress]bool // one way: from, to
	allow func(from, to raft.ServerAddress, request any) bool
	// reply may hold an answer back; it is called before the answer is handed
	// to the one who asked.
	reply func(from, to raft.ServerAddress, request any)
}

func newNetwork() *network {
	return &network{
		latency: time.Millisecond,
		timeout: 400 * time.Millisecond,
		ends:    make(map[raft.ServerAddress]*memTransport),
		cuts:    make(map[[2]raft.ServerAddress]bool),
	}
}

func (w *network) end(addr raft.ServerAddress) *memTransport {
	t := &memTransport{network: w, addr: addr, rpcs: make(chan raft.RPC, 16), closed: make(chan struct{})}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ends[addr] = t
	return t
}

func (w *network) passes(from, to raft.ServerAddress, request any) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.cuts[[2]raft.ServerAddress{from, to}] {
		return false
	}
	return w.allow == nil || w.allow(from, to, request)
}

func (w *network) onReply() func(from, to raft.ServerAddress, request any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.reply
}

func (w *network) set(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
}

// cut separates a from each of bs, both ways.
func (w *network) cut(a raft.ServerAddress, bs ...raft.ServerAddress) {
	w.set(func() {
		for _, b := range bs {
			w.cuts[[2]raft.ServerAddress{a, b}] = true
			w.cuts[[2]raft.ServerAddress{b, a}] = true
		}
	})
}

func (w *network) heal() { w.set(func() { clear(w.cuts) }) }

// memTransport is raft's transport on a network.
type memTransport struct {
	*network
	addr   raft.ServerAddress
	rpcs   chan raft.RPC
	once   sync.Once
	closed chan struct{}
	beat   atomic.Pointer[func(raft.RPC)]
}

func (t *memTransport) Consumer() <-chan raft.RPC     { return t.rpcs }
func (t *memTransport) LocalAddr() raft.ServerAddress { return t.addr }
func (t *memTransport) Close() error                  { t.once.Do(func() { close(t.closed) }); return nil }
func (t *memTransport) EncodePeer(_ raft.ServerID, a raft.ServerAddress) []byte {
	return []byte(a)
}
func (t *memTransport) DecodePeer(b []byte) raft.ServerAddress     { return raft.ServerAddress(b) }
func (t *memTransport) SetHeartbeatHandler(handler func(raft.RPC)) { t.beat.Store(&handler) }

func (t *memTransport) AppendEntriesPipeline(raft.ServerID, raft.ServerAddress) (raft.AppendPipeline, error) {
	return nil, raft.ErrPipelineReplicationNotSupported
}

func (t *memTransport) AppendEntries(_ raft.ServerID, to raft.ServerAddress, q *raft.AppendEntriesRequest, a *raft.AppendEntriesResponse) error {
	return call(t, to, q, a, nil)
}

func (t *memTransport) RequestVote(_ raft.ServerID, to raft.ServerAddress, q *raft.RequestVoteRequest, a *raft.RequestVoteResponse) error {
	return call(t, to, q, a, nil)
}

func (t *memTransport) RequestPreVote(_ raft.ServerID, to raft.ServerAddress, q *raft.RequestPreVoteRequest, a *raft.RequestPreVoteResponse) error {
	return call(t, to, q, a, nil)
}

func (t *memTransport) TimeoutNow(_ raft.ServerID, to raft.ServerAddress, q *raft.TimeoutNowRequest, a *raft.TimeoutNowResponse) error {
	return call(t, to, q, a, nil)
}

func (t *memTransport) InstallSnapshot(_ raft.ServerID, to raft.ServerAddress, q *raft.InstallSnapshotRequest, a *raft.InstallSnapshotResponse, data io.Reader) error {
	return call(t, to, q, a, data)
}

func isHeartbeat(q any) bool {
	a, ok := q.(*raft.AppendEntriesRequest)
	return ok && a.PrevLogEntry == 0 && a.PrevLogTerm == 0 && len(a.Entries) == 0 && a.LeaderCommitIndex == 0
}

func call[A any](t *memTransport, to raft.ServerAddress, q any, a *A, data io.Reader) error {
	t.mu.Lock()
	peer, patience := t.ends[to], t.timeout
	t.mu.Unlock()
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	lost := func() error {
		select {
		case <-timeout.C:
		case <-t.closed:
		}
		return errCut
	}
	time.Sleep(t.latency)
	if peer == nil || !t.passes(t.addr, to, q) {
		return lost()
	}
	answers := make(chan raft.RPCResponse, 1)
	rpc := raft.RPC{Command: q, Reader: data, RespChan: answers}
	if beat := peer.beat.Load(); t.fast && beat != nil && isHeartbeat(q) {
		(*beat)(rpc)
	} else {
		select {
		case peer.rpcs <- rpc:
		case <-timeout.C:
			return errCut
		case <-peer.closed:
			return errCut
		case <-t.closed:
			return errCut
		}
	}
	var got raft.RPCResponse
	select {
	case got = <-answers:
	case <-timeout.C:
		return errCut
	case <-peer.closed:
		return errCut
	}
	if hold := t.onReply(); hold != nil {
		hold(t.addr, to, q)
	}
	time.Sleep(t.latency)
	if !t.passes(to, t.addr, nil) {
		return lost()
	}
	if got.Error != nil {
		return got.Error
	}
	*a = *got.Response.(*A)
	return nil
}

// disk is a store whose writes take a while, can be stopped and can fail.
type disk struct {
	*raft.InmemStore
	mu    sync.Mutex
	delay time.Duration
	hold  chan struct{} // writes wait until it is closed
	fail  error
}

func newDisk() *disk { return &disk{InmemStore: raft.NewInmemStore()} }

func (d *disk) set(f func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f()
}

func (d *disk) write() error {
	d.mu.Lock()
	delay, hold, err := d.delay, d.hold, d.fail
	d.mu.Unlock()
	if delay > 0 {
		time.Sleep(delay)
	}
	if hold != nil {
		<-hold
	}
	return err
}

func (d *disk) StoreLogs(l []*raft.Log) error {
	return errors.Join(d.write(), d.InmemStore.StoreLogs(l))
}

func (d *disk) StoreLog(l *raft.Log) error { return d.StoreLogs([]*raft.Log{l}) }

func (d *disk) SetUint64(k []byte, v uint64) error {
	if err := d.write(); err != nil {
		return err
	}
	return d.InmemStore.SetUint64(k, v)
}

// GetUint64 copies what the library's store keeps by the key's memory.
func (d *disk) Get(k []byte) ([]byte, error) {
	v, err := d.InmemStore.Get(k)
	return slices.Clone(v), err
}

// recorder is the leader's side.
type recorder struct {
	id ServerID
	t  testing.TB

	mu      sync.Mutex
	current *Leadership
	terms   []uint64 // of each Established
	deposed []uint64
	events  int
	ousted  func(*Leadership) // may sleep: no mutex is held
	admit   func(c *command.Command, s *fsm.State, touched bool) *command.Result
}

func (r *recorder) Established(l *Leadership, s *fsm.State) {
	if s.ClusterID() != "c1" {
		r.t.Errorf("%s: established in cluster %q", r.id, s.ClusterID())
	}
	r.mu.Lock()
	if r.current != nil {
		r.t.Errorf("%s: established twice", r.id)
	}
	r.current = l
	r.terms = append(r.terms, l.Term())
	r.mu.Unlock()
}

func (r *recorder) Admit(c *command.Command, s *fsm.State, touched bool) *command.Result {
	r.mu.Lock()
	admit := r.admit
	r.mu.Unlock()
	if admit == nil {
		return nil
	}
	return admit(c, s, touched)
}

func (r *recorder) Event(fsm.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events++
}

func (r *recorder) Deposed(l *Leadership) {
	r.mu.Lock()
	hook := r.ousted
	r.mu.Unlock()
	if hook != nil {
		hook(l)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.current != l {
		r.t.Errorf("%s: deposed from a leadership it does not have", r.id)
	}
	select {
	case <-l.Done():
	default:
		r.t.Errorf("%s: deposed and not done", r.id)
	}
	r.current = nil
	r.deposed = append(r.deposed, l.Term())
}

func (r *recorder) leadership() *Leadership {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.current
}

// member is one server of a cluster.
type member struct {
	id        ServerID
	addr      raft.ServerAddress
	disk      *disk
	snapshots *raft.InmemSnapshotStore
	side      *recorder
	node      *Node
	fatal     chan error
}

// cluster is what a test drives, in a bubble.
type cluster struct {
	t       testing.TB
	net     *network
	members []*member
	tune    func(*Config)
	// asked replaces the question between agents.
	asked func(ctx context.Context, from, to ServerID, addr string) (uint64, error)

	mu     sync.Mutex
	hashes map[uint64]uint64 // by index, of whoever was first
	by     map[uint64]ServerID
}

func newCluster(t testing.TB, voters, standbys int, tune func(*Config)) *cluster {
	c := &cluster{t: t, net: newNetwork(), tune: tune, hashes: make(map[uint64]uint64), by: make(map[uint64]ServerID)}
	var servers []Server
	for i := range voters + standbys {
		m := c.add(fmt.Sprintf("s%d", i))
		servers = append(servers, Server{ID: m.id, Address: string(m.addr), Voter: i < voters})
	}
	if err := c.members[0].node.Bootstrap(servers); err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *cluster) add(name string) *member {
	m := &member{
		id:        ServerID(name),
		addr:      raft.ServerAddress(name + ":1"),
		disk:      newDisk(),
		snapshots: raft.NewInmemSnapshotStore(),
		side:      &recorder{id: ServerID(name), t: c.t},
		fatal:     make(chan error, 1),
	}
	c.members = append(c.members, m)
	c.open(m)
	return m
}

func (c *cluster) config(m *member) Config {
	cfg := DefaultConfig()
	cfg.ServerID, cfg.Address, cfg.ClusterID = m.id, string(m.addr), "c1"
	cfg.Transport = c.net.end(m.addr)
	cfg.Logs, cfg.Stable, cfg.Snapshots = m.disk, m.disk, m.snapshots
	cfg.Asker, cfg.Leader = asker{c, m.id}, m.side
	cfg.Wall = time.Now
	cfg.Log = testLog()
	cfg.Fatal = func(err error) { m.fatal <- err }
	cfg.Observe = func(s *fsm.State, o fsm.Outcome) { c.observe(m.id, s.Hash(), o.Index) }
	if c.tune != nil {
		c.tune(&cfg)
	}
	return cfg
}

func testLog() *slog.Logger {
	if os.Getenv("CONSENSUS_TEST_LOG") != "" {
		return slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	return slog.New(slog.DiscardHandler)
}

func (c *cluster) open(m *member) {
	n, err := Open(c.config(m))
	if err != nil {
		c.t.Fatalf("open %s: %v", m.id, err)
	}
	c.set(func() { m.node = n })
}

func (c *cluster) set(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f()
}

func (c *cluster) nodeOf(id ServerID) (n *Node, addr raft.ServerAddress) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, m := range c.members {
		if m.id == id {
			return m.node, m.addr
		}
	}
	return nil, ""
}

func (c *cluster) close() {
	for _, m := range c.members {
		if err := m.node.Close(); err != nil {
			c.t.Errorf("close %s: %v", m.id, err)
		}
	}
}

func (c *cluster) observe(id ServerID, hash, index uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if was, ok := c.hashes[index]; ok && was != hash {
		c.t.Errorf("replicas differ at index %d: %s has %x, %s has %x", index, c.by[index], was, id, hash)
	}
	c.hashes[index], c.by[index] = hash, id
}

// asker asks over the cluster's network.
type asker struct {
	c    *cluster
	from ServerID
}

func (a asker) AskTerm(ctx context.Context, to ServerID, addr string) (uint64, error) {
	a.c.mu.Lock()
	asked := a.c.asked
	a.c.mu.Unlock()
	if asked != nil {
		return asked(ctx, a.from, to, addr)
	}
	return a.c.ask(ctx, a.from, to, addr)
}

func (c *cluster) ask(ctx context.Context, from, to ServerID, _ string) (uint64, error) {
	_, here := c.nodeOf(from)
	n, there := c.nodeOf(to)
	time.Sleep(c.net.latency)
	if n == nil || !c.net.passes(here, there, nil) {
		<-ctx.Done()
		return 0, ctx.Err()
	}
	term := n.Term()
	time.Sleep(c.net.latency)
	if !c.net.passes(there, here, nil) {
		<-ctx.Done()
		return 0, ctx.Err()
	}
	return term, nil
}

// leader waits for a member whose leadership is established, and whose rivals
// in lower terms are not looked at.
func (c *cluster) leader(except ...*member) (*member, *Leadership) {
	c.t.Helper()
	for range 3000 {
		var best *member
		var lead *Leadership
		for _, m := range c.members {
			l := m.side.leadership()
			if l != nil && !slices.Contains(except, m) && (lead == nil || l.Term() > lead.Term()) {
				best, lead = m, l
			}
		}
		if best != nil {
			return best, lead
		}
		time.Sleep(10 * time.Millisecond)
	}
	c.t.Fatal("nobody leads")
	return nil, nil
}

func (c *cluster) addrs(except *member) (out []raft.ServerAddress) {
	for _, m := range c.members {
		if m != except {
			out = append(out, m.addr)
		}
	}
	return out
}

// followers are all but m.
func (c *cluster) followers(m *member) (out []*member) {
	for _, x := range c.members {
		if x != m {
			out = append(out, x)
		}
	}
	return out
}

// until waits for cond, in virtual time.
func until(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for range 6000 {
		if cond() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("never: %s", what)
}

// acquire is a command with an effect, told apart by its names.
func acquire(name string) *command.Command {
	return &command.Command{Kind: &command.Command_PlainAcquire{PlainAcquire: &command.PlainAcquire{
		Owner: "o-" + name, Lock: "l-" + name, TtlNanos: uint64(10 * time.Second), Identity: "uid:1",
	}}}
}

type answer struct {
	result *command.Result
	err    error
}

// propose waits for one proposal's answer.
func propose(t testing.TB, l *Leadership, c *command.Command) answer {
	t.Helper()
	ch := make(chan answer, 1)
	if err := l.Propose(Proposal{Command: c, Done: func(r *command.Result, err error) { ch <- answer{r, err} }}); err != nil {
		return answer{nil, err}
	}
	return <-ch
}

// appliedNames reads the committed log of a member: the locks of all plain
// acquires in entries that are not void, with how often each occurs.
func appliedNames(t testing.TB, m *member) map[string]int {
	t.Helper()
	out := make(map[string]int)
	first, _ := m.disk.FirstIndex()
	for i := first; i <= m.node.CommitIndex(); i++ {
		var l raft.Log
		if err := m.disk.GetLog(i, &l); err != nil {
			t.Fatalf("log %d: %v", i, err)
		}
		var e command.Entry
		if l.Type != raft.LogCommand || proto.Unmarshal(l.Data, &e) != nil || e.Term != l.Term {
			continue
		}
		for _, cmd := range e.Commands {
			if a := cmd.GetPlainAcquire(); a != nil {
				out[a.GetLock()[2:]]++
			}
		}
	}
	return out
}

func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, f)
}
