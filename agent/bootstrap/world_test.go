package bootstrap

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/raftlock/raftlock/link/linkpb"
)

var (
	errDead    = errors.New("this process is dead")
	errRefused = errors.New("connection refused")
)

// world is a pool of hosts in a bubble: their network, gossip and disks. It
// checks what must be true at each write and each decision.
type world struct {
	t     testing.TB
	label string
	log   *slog.Logger

	mu    sync.Mutex
	rng   *rand.Rand
	hosts map[string]*host
	names []string
	// link and gossip hold the pairs that are cut.
	link, gossip map[pair]bool
	// hook is called at each event, without mu.
	hook func(event)
	// lose, late and crash are chances: of a message, of a second delivery up to
	// lateMost later, of a death at a save.
	lose, late, crash float64
	// slow is the most that a message takes, one way.
	slow time.Duration
	// mayWipe: one founder may still lose its disk.
	mayWipe bool
	// wiped are servers whose disk is gone for ever.
	wiped   map[string]bool
	founded map[string][]string
	decided map[string]string
	history []string
	count   map[string]int
	stopped bool

	group sync.WaitGroup
}

const lateMost = 40 * time.Second

type pair [2]string

func pairOf(a, b string) pair {
	if a > b {
		a, b = b, a
	}
	return pair{a, b}
}

// event is a point at which a fault can strike.
type event struct {
	what string
	// parties are the hosts it concerns.
	parties []string
}

type host struct {
	name      string
	expect    int
	initial   []string
	forwarder bool
	disk      *disk
	proc      *proc
	starts    uint64
}

// disk is what survives a process.
type disk struct {
	data map[string][]byte
	// raft is the cluster that Raft's own files are of.
	raft string
	// read is the record, read once for each write.
	read *record
}

func newDisk() *disk { return &disk{data: make(map[string][]byte), read: new(record)} }

func (d *disk) save(key string, value []byte) {
	d.data[key] = slices.Clone(value)
	if key != recordKey {
		return
	}
	d.read = new(record)
	if err := json.Unmarshal(value, d.read); err != nil {
		panic(err)
	}
}

func (d *disk) record() *record { return d.read }

// proc is one life of an agent.
type proc struct {
	w        *world
	host     *host
	disk     *disk
	serverID string
	number   uint64
	cancel   context.CancelFunc
	b        *Bootstrap

	// Guarded by world.mu.
	dead     bool
	decision Decision
	seen     map[string]sighting
	members  []Member
	changed  chan struct{}
}

type sighting struct {
	member Member
	at     time.Time
}

func newWorld(t testing.TB, label string, seed uint64) *world {
	return &world{
		t: t, label: label, log: slog.New(slog.DiscardHandler),
		rng:   rand.New(rand.NewPCG(seed, 1)),
		hosts: make(map[string]*host), link: make(map[pair]bool), gossip: make(map[pair]bool),
		wiped: make(map[string]bool), founded: make(map[string][]string), decided: make(map[string]string),
		count: make(map[string]int), hook: func(event) {}, slow: 20 * time.Millisecond,
	}
}

// add makes a host with an empty disk; start brings it to life.
func (w *world) add(name string, expect int) *host {
	h := &host{name: name, expect: expect, disk: newDisk()}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hosts[name] = h
	w.names = append(w.names, name)
	return h
}

func hostNames(n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("n%d", i+1)
	}
	return names
}

// note keeps the history of a schedule, for the report of a failure.
func (w *world) noteLocked(format string, args ...any) {
	w.history = append(w.history, time.Now().Format("15:04:05.000 ")+fmt.Sprintf(format, args...))
}

func (w *world) failLocked(format string, args ...any) {
	w.t.Helper()
	lines := w.history[max(0, len(w.history)-150):]
	w.t.Errorf("%s: %s\n%s", w.label, fmt.Sprintf(format, args...), strings.Join(lines, "\n"))
}

// start brings a host to life, unless it lives.
func (w *world) start(h *host) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if h.proc != nil || w.stopped {
		return
	}
	h.starts++
	ctx, cancel := context.WithCancel(context.Background())
	p := &proc{w: w, host: h, disk: h.disk, number: h.starts, cancel: cancel, seen: make(map[string]sighting), changed: make(chan struct{})}
	h.proc = p
	if h.starts > 1 {
		w.count["restarts"]++
	}
	w.noteLocked("%s starts", h.name)
	seed := [32]byte{}
	for i := range seed {
		seed[i] = byte(w.rng.Uint32())
	}
	w.group.Go(func() { p.run(ctx, rand.NewChaCha8(seed)) })
}

// kill ends a host's process at once: nothing that it does from now on leaves
// it. The host starts again after down; never if that is negative.
func (w *world) kill(h *host, down time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	p := h.proc
	if p == nil {
		return
	}
	w.noteLocked("%s dies", h.name)
	if !w.stopped {
		w.count["kills"]++
	}
	p.dead = true
	h.proc = nil
	p.cancel()
	if down >= 0 {
		w.group.Go(func() { time.Sleep(down); w.start(h) })
	}
}

// wipe kills a host and loses its disk: it comes back as a new server.
func (w *world) wipe(h *host, down time.Duration) {
	w.kill(h, -1)
	w.mu.Lock()
	w.noteLocked("%s loses its disk", h.name)
	w.count["wipes"]++
	if id := h.disk.data[serverIDKey]; id != nil {
		w.wiped[string(id)] = true
	}
	h.disk = newDisk()
	w.mu.Unlock()
	w.group.Go(func() { time.Sleep(down); w.start(h) })
}

// cut isolates a host for a while.
func (w *world) cut(name string, lasts time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.count["cuts"]++
	w.noteLocked("%s is cut off", name)
	for _, other := range w.names {
		w.link[pairOf(name, other)], w.gossip[pairOf(name, other)] = true, true
	}
	w.group.Go(func() {
		time.Sleep(lasts)
		w.mu.Lock()
		defer w.mu.Unlock()
		w.noteLocked("%s is connected", name)
		for _, other := range w.names {
			delete(w.link, pairOf(name, other))
			delete(w.gossip, pairOf(name, other))
		}
	})
}

func (p *proc) run(ctx context.Context, rand io.Reader) {
	id, err := LoadServerID(p, rand)
	if err != nil {
		return
	}
	cfg := DefaultConfig()
	cfg.Name, cfg.Address, cfg.ServerID = p.host.name, "at-"+p.host.name, id
	cfg.Expect, cfg.Initial, cfg.Forwarder = p.host.expect, p.host.initial, p.host.forwarder
	cfg.View, cfg.Store, cfg.Ask, cfg.Log, cfg.Rand = p, p, p, p.w.log.With("host", p.host.name), rand
	b, err := New(cfg)
	if err != nil {
		p.w.mu.Lock()
		defer p.w.mu.Unlock()
		if !p.dead {
			p.w.failLocked("%s: new: %v", p.host.name, err)
		}
		return
	}
	p.w.mu.Lock()
	p.serverID, p.b = id, b
	p.w.mu.Unlock()
	d, err := b.Run(ctx)
	if err != nil {
		return
	}
	if p.act(d) {
		_ = b.Watch(ctx)
	}
}

// act is what an agent does with a decision; it checks that it may.
func (p *proc) act(d Decision) bool {
	w := p.w
	w.hook(event{what: "raft before " + p.host.name, parties: []string{p.host.name}})
	w.mu.Lock()
	if p.dead {
		w.mu.Unlock()
		return false
	}
	w.noteLocked("%s decides to %s %.6s", p.host.name, d.Kind, d.ClusterID)
	if old, ok := w.decided[p.serverID]; ok && old != d.ClusterID {
		w.failLocked("%s is of cluster %.6s, then of %.6s", p.host.name, old, d.ClusterID)
	}
	w.decided[p.serverID] = d.ClusterID
	if d.Kind != Follow {
		if p.disk.raft != "" && p.disk.raft != d.ClusterID {
			w.failLocked("%s holds Raft state of %.6s and starts it for %.6s", p.host.name, p.disk.raft, d.ClusterID)
		}
		p.disk.raft = d.ClusterID
	}
	if d.Kind == Found {
		w.foundedLocked(d)
	}
	w.mu.Unlock()
	w.hook(event{what: "raft after " + p.host.name, parties: []string{p.host.name}})
	if d.Kind == Found {
		if err := p.b.Founded(); err != nil {
			return false
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	p.decision = d
	return !p.dead
}

// foundedLocked checks a new cluster's list: exactly the list, every one of it
// bound to it, none of it in another.
func (w *world) foundedLocked(d Decision) {
	w.count["founded"]++
	var servers []string
	for _, m := range d.Members {
		servers = append(servers, m.ServerID)
		h := w.hosts[m.Name]
		r := h.disk.record()
		if r.ServerID != m.ServerID {
			if !w.wiped[m.ServerID] {
				w.failLocked("%.6s lists %s as a server that it never was", d.ClusterID, m.Name)
			}
			continue
		}
		if !r.promisedTo(d.ClusterID) && !slices.Contains(r.Forgotten, d.ClusterID) {
			w.failLocked("%.6s was founded and %s is not promised to it", d.ClusterID, m.Name)
		}
		if r.Cluster != "" && r.Cluster != d.ClusterID {
			w.failLocked("%.6s was founded with %s, which is of %.6s", d.ClusterID, m.Name, r.Cluster)
		}
	}
	for id, others := range w.founded {
		if id == d.ClusterID {
			continue
		}
		for _, s := range others {
			if slices.Contains(servers, s) && w.livesLocked(id) {
				w.failLocked("clusters %.6s and %.6s share server %.6s", id, d.ClusterID, s)
			}
		}
	}
	w.founded[d.ClusterID] = servers
}

// livesLocked reports whether any disk knows of a cluster.
func (w *world) livesLocked(id string) bool {
	for _, h := range w.hosts {
		if h.disk.record().Cluster == id {
			return true
		}
	}
	return false
}

// Load and Save make proc a Store that dies with the process.
func (p *proc) Load(key string) ([]byte, error) {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	if p.dead {
		return nil, errDead
	}
	return slices.Clone(p.disk.data[key]), nil
}

func (p *proc) Save(key string, value []byte) error {
	n := p.w.tick("save " + key + " " + p.host.name)
	if err := p.savePoint(fmt.Sprintf("before save %s %s #%d", key, p.host.name, n)); err != nil {
		return err
	}
	p.w.mu.Lock()
	if p.dead {
		p.w.mu.Unlock()
		return errDead
	}
	old := p.disk.record()
	p.disk.save(key, value)
	if key == recordKey {
		p.w.checkWriteLocked(p.host.name, old, p.disk.record())
	}
	p.w.mu.Unlock()
	if err := p.savePoint(fmt.Sprintf("after save %s %s #%d", key, p.host.name, n)); err != nil {
		return err
	}
	time.Sleep(2 * time.Millisecond)
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	if p.dead {
		return errDead
	}
	return nil
}

func (p *proc) savePoint(what string) error {
	w := p.w
	w.hook(event{what: what, parties: []string{p.host.name}})
	w.mu.Lock()
	strike := w.rng.Float64() < w.crash
	down := time.Duration(w.rng.IntN(10_000)) * time.Millisecond
	w.mu.Unlock()
	if strike {
		w.kill(p.host, down)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if p.dead {
		return errDead
	}
	return nil
}

// tick counts events by name, so that each has its own.
func (w *world) tick(name string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.count["event "+name]++
	return w.count["event "+name]
}

// checkWriteLocked knows the only ways in which a record may change.
func (w *world) checkWriteLocked(name string, old, now *record) {
	if old.Cluster != "" && now.Cluster != old.Cluster {
		w.failLocked("%s forgot that it is of %.6s", name, old.Cluster)
	}
	if now.standing() != nil && old.Own == nil {
		w.count["stood"]++
		w.noteLocked("%s stands with %.6s %v", name, now.Own.ClusterID, names(now.Own.Members))
	}
	if old.standing() != nil && now.Own == nil {
		w.count["abandons"]++
		w.noteLocked("%s abandons %.6s", name, old.Own.ClusterID)
	}
	if now.Promise != nil && !old.promisedTo(now.Promise.ClusterID) {
		w.count["promises"]++
		w.noteLocked("%s promises %.6s", name, now.Promise.ClusterID)
		if old.Cluster != "" {
			w.failLocked("%s is of %.6s and promises", name, old.Cluster)
		}
	}
	if now.Cluster != old.Cluster {
		w.noteLocked("%s is of %.6s now", name, now.Cluster)
	}
	if old.Promise == nil || now.promisedTo(old.Promise.ClusterID) || slices.Contains(now.Forgotten, old.Promise.ClusterID) {
		return
	}
	f := old.Promise.byName(old.Promise.Founder)
	if own := w.hosts[f.Name].disk.record().Own; own != nil && own.ClusterID == old.Promise.ClusterID {
		w.failLocked("%s took back its promise to %.6s, which stands", name, old.Promise.ClusterID)
	}
}

// Members and Changed make proc a View.
func (p *proc) Members() []Member {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	return p.members
}

func (p *proc) Changed() <-chan struct{} {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	return p.changed
}

const gossipTick = 200 * time.Millisecond

// gossips runs gossip until the world is stopped: news takes a tick or a few,
// and a host that is gone is seen for two seconds more.
func (w *world) gossips() {
	w.group.Go(func() {
		for !w.gossipOnce() {
			time.Sleep(gossipTick)
		}
	})
}

func (w *world) gossipOnce() (stopped bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, viewer := range w.names {
		p := w.hosts[viewer].proc
		if p == nil || p.b == nil {
			continue
		}
		w.seeLocked(p)
	}
	return w.stopped
}

func (w *world) seeLocked(p *proc) {
	now := time.Now()
	for _, name := range w.names {
		other := w.hosts[name].proc
		seen := other != nil && other.b != nil && !(name != p.host.name && w.gossip[pairOf(name, p.host.name)])
		if seen && w.rng.IntN(3) > 0 {
			p.seen[name] = sighting{member: other.memberLocked(), at: now}
		}
	}
	var members []Member
	for _, name := range slices.Sorted(maps.Keys(p.seen)) {
		if now.Sub(p.seen[name].at) < 2*time.Second {
			members = append(members, p.seen[name].member)
		}
	}
	if !slices.Equal(members, p.members) {
		p.members = members
		close(p.changed)
		p.changed = make(chan struct{})
	}
}

// memberLocked is what the agent tells gossip. It reads the disk, not
// ClusterID, whose lock may be held around a save.
func (p *proc) memberLocked() Member {
	r := p.disk.record()
	return Member{
		Name: p.host.name, Address: "at-" + p.host.name, ServerID: p.serverID,
		ClusterID: r.public(), Forwarder: p.host.forwarder, Incarnation: p.number,
	}
}

// Ask makes proc an Asker.
func (p *proc) Ask(ctx context.Context, address string, q *linkpb.Question) (*linkpb.Answer, error) {
	w, to := p.w, strings.TrimPrefix(address, "at-")
	what := kindOf(q) + " " + p.host.name + ">" + to
	n := w.tick(what)
	parties := []string{p.host.name, to}
	w.hook(event{what: fmt.Sprintf("request %s #%d", what, n), parties: parties})
	q = proto.CloneOf(q)
	w.perhapsLate(to, q)
	if err := w.travel(ctx, p, to); err != nil {
		return nil, err
	}
	a, err := w.deliver(to, q)
	if err != nil {
		return nil, err
	}
	w.hook(event{what: fmt.Sprintf("answer %s #%d", what, n), parties: parties})
	if err := w.travel(ctx, p, to); err != nil {
		return nil, err
	}
	return a, nil
}

func kindOf(q *linkpb.Question) string {
	switch q.GetFounding().GetFounding().(type) {
	case *linkpb.Founding_Promise:
		return "promise"
	case *linkpb.Founding_Abandon:
		return "abandon"
	case *linkpb.Founding_Start:
		return "start"
	}
	return "inquire"
}

// travel takes a message's time. A lost one is never heard of again.
func (w *world) travel(ctx context.Context, p *proc, to string) error {
	w.mu.Lock()
	delay := time.Millisecond + time.Duration(w.rng.Int64N(int64(w.slow)))
	lost := w.rng.Float64() < w.lose
	w.mu.Unlock()
	time.Sleep(delay)
	w.mu.Lock()
	lost = lost || w.link[pairOf(p.host.name, to)]
	dead := p.dead
	w.mu.Unlock()
	if lost {
		<-ctx.Done()
	}
	if dead {
		return errDead
	}
	return ctx.Err()
}

// deliver has the question answered by whoever lives there.
func (w *world) deliver(to string, q *linkpb.Question) (*linkpb.Answer, error) {
	w.mu.Lock()
	h := w.hosts[to]
	var p *proc
	if h != nil && h.proc != nil && h.proc.b != nil {
		p = h.proc
	}
	w.mu.Unlock()
	if p == nil {
		return nil, errRefused
	}
	f := p.b.Answer(proto.CloneOf(q.GetFounding()))
	w.mu.Lock()
	defer w.mu.Unlock()
	if p.dead || f == nil {
		return nil, errRefused
	}
	if q.GetFounding().GetPromise() != nil && !f.GetOk() {
		w.count["refusals"]++
	}
	return &linkpb.Answer{ServerId: p.serverID, Agent: to, Answer: &linkpb.Answer_Founding{Founding: proto.CloneOf(f)}}, nil
}

// perhapsLate has a message arrive once more, perhaps long after.
func (w *world) perhapsLate(to string, q *linkpb.Question) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.rng.Float64() >= w.late {
		return
	}
	w.count["late"]++
	after := time.Duration(w.rng.Int64N(int64(lateMost)))
	w.group.Go(func() {
		time.Sleep(after)
		_, _ = w.deliver(to, q)
	})
}

// settle waits until every host has decided, at most so long.
func (w *world) settle(most time.Duration) bool {
	for end := time.Now().Add(most); time.Now().Before(end); time.Sleep(250 * time.Millisecond) {
		if w.settled() {
			return true
		}
	}
	return w.settled()
}

func (w *world) settled() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, h := range w.hosts {
		if h.proc == nil || h.proc.decision.Kind == 0 {
			return false
		}
	}
	return true
}

// clusters are those that any disk knows of.
func (w *world) clusters() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	ids := make(map[string]bool)
	for _, h := range w.hosts {
		if id := h.disk.record().Cluster; id != "" {
			ids[id] = true
		}
	}
	return slices.Sorted(maps.Keys(ids))
}

// mustBeOne fails unless all hosts are of one cluster, the listed with Raft and
// the others without.
func (w *world) mustBeOne(settled bool) {
	w.t.Helper()
	ids := w.clusters()
	w.mu.Lock()
	defer w.mu.Unlock()
	if !settled || len(ids) != 1 {
		var stuck []string
		for _, name := range w.names {
			if p := w.hosts[name].proc; p != nil && p.b != nil {
				s := p.b.Status()
				stuck = append(stuck, fmt.Sprintf("%s: %s %v, of %.6s", name, s.Doing, s.Of, s.ClusterID))
			}
		}
		w.failLocked("settled %v, clusters %v\n%s", settled, ids, strings.Join(stuck, "\n"))
	}
}

// stop kills everything and waits.
func (w *world) stop() {
	w.mu.Lock()
	w.stopped = true
	hosts := slices.Collect(maps.Values(w.hosts))
	w.mu.Unlock()
	for _, h := range hosts {
		w.kill(h, -1)
	}
	w.group.Wait()
}
