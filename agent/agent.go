package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/hashicorp/raft"
	"go.opentelemetry.io/otel/trace"

	"github.com/raftlock/raftlock/agent/bootstrap"
	"github.com/raftlock/raftlock/agent/session"
	api "github.com/raftlock/raftlock/api/raftlock/v1"
	"github.com/raftlock/raftlock/consensus"
	"github.com/raftlock/raftlock/fsm"
	"github.com/raftlock/raftlock/fsm/command"
	"github.com/raftlock/raftlock/internal/mutant"
	"github.com/raftlock/raftlock/link"
	"github.com/raftlock/raftlock/link/linkpb"
	"github.com/raftlock/raftlock/telemetry"
	"github.com/raftlock/raftlock/telemetry/key"
	"github.com/raftlock/raftlock/telemetry/tracing"
)

// Stores are what a Raft member keeps on disk.
type Stores struct {
	Logs      raft.LogStore
	Stable    raft.StableStore
	Snapshots raft.SnapshotStore
	// Close releases them, after Raft has ended. May be nil.
	Close func() error
}

// Gossip is who is out there, as far as is heard: hints only.
type Gossip interface {
	bootstrap.View
	// Publish tells the others which Raft server and which cluster this agent
	// is of; no cluster yet: empty.
	Publish(serverID, clusterID string)
	// Address is the newest peer address heard of for a Raft server; false:
	// none was. A hint. It is called from any goroutine and must not block.
	Address(serverID string) (string, bool)
}

// Config is what an Agent is made of. All fields are required unless it says
// otherwise.
type Config struct {
	// Name is unique among agents; Address is where others reach the peer port.
	Name    string
	Address string
	// Incarnation is a random number made for this start.
	Incarnation uint64
	// Clock reads the host's CLOCK_BOOTTIME; Wall stamps entries for people.
	Clock func() time.Duration
	Wall  func() time.Time
	// Rand is cryptographic in production: ids are drawn from it.
	Rand io.Reader

	Network link.Network
	Gossip  Gossip
	// Store keeps the small files of the data directory. Progress saves one too,
	// beside Bootstrap, which has its own.
	Store bootstrap.Store
	// Open opens the Raft stores; called once, when this agent is a member.
	Open func() (*Stores, error)
	// Transport carries Raft's messages as that server, and takes none that are
	// meant for another one.
	Transport func(raft.ServerID) raft.Transport

	// Bootstrap is a template: Expect, Initial, Forwarder and the durations are
	// taken from it.
	Bootstrap bootstrap.Config

	// Consensus is a template: timings and bounds are taken from it.
	Consensus consensus.Config
	Log       *slog.Logger

	// Gone reports that a process which the log has surely is no more: the proof
	// by which an agent that was restarted ends the sessions of the dead. It is
	// called from one goroutine and must be quick. Nil: never.
	Gone func(*command.Process) bool
	// Admit is session.Config's: whether an identity may open or acquire now.
	// Nil: always.
	Admit func(identity string) (later time.Duration, ok bool)

	// TracerProvider makes the spans of requests and of commits. Nil: none are
	// made here, and those of others are handed on.
	TracerProvider trace.TracerProvider

	// Metrics takes what is measured. Nil: nothing is.
	Metrics *telemetry.Instruments
}

// Agent is one host's RaftLock.
type Agent struct {
	cfg      Config
	boot     *bootstrap.Bootstrap
	sessions *session.Host
	tracer   trace.Tracer       // nil: no spans are made here
	wake     chan struct{}      // capacity 1
	probes   chan chan struct{} // the ticker answers them; see Progress
	rests    chan chan struct{} // the router answers them; see Progress
	over     chan struct{}      // closed when Run stops
	progress progress
	census   census
	stop     context.CancelCauseFunc // ends Run; set by it, before anything runs
	stores   *Stores                 // set before node, closed after it

	mu       sync.Mutex // guards the rest
	decision *bootstrap.Decision
	node     *consensus.Node
	leading  *leading
	linkNo   uint64
	linked   leaderLink // zero: no link
	// answered are servers that said that they are Raft members: of a crowd of
	// agents those to ask first. Hints, at most askedMax.
	answered map[string]bool

	deposed sync.WaitGroup // leaderships on their way out
	// others has a place for each read of other agents under way.
	others chan struct{}
}

// New makes an Agent. It starts nothing.
func New(cfg Config) (*Agent, error) {
	a := &Agent{
		cfg: cfg, wake: make(chan struct{}, 1), over: make(chan struct{}),
		probes: make(chan chan struct{}), rests: make(chan chan struct{}),
		others: make(chan struct{}, readsForOthersMax),
	}
	a.progress.writing = make(chan struct{}, 1)
	id, err := bootstrap.LoadServerID(cfg.Store, cfg.Rand)
	if err != nil {
		return nil, fmt.Errorf("server id: %w", err)
	}
	a.cfg.Consensus.ServerID = raft.ServerID(id)
	a.tracer = tracing.Of(cfg.TracerProvider)
	boot := cfg.Bootstrap
	boot.Name, boot.Address, boot.ServerID = cfg.Name, cfg.Address, id
	boot.View, boot.Store, boot.Ask, boot.Log, boot.Rand = cfg.Gossip, cfg.Store, cfg.Network, cfg.Log, cfg.Rand
	if a.boot, err = bootstrap.New(boot); err != nil {
		return nil, err
	}
	cfg.Gossip.Publish(id, a.boot.ClusterID())
	a.sessions = session.New(session.Config{
		Agent: cfg.Name, Incarnation: cfg.Incarnation, Clock: cfg.Clock,
		Log: cfg.Log, Wake: func() { signal(a.wake) }, Admit: cfg.Admit, Tracer: a.tracer,
		Metrics: cfg.Metrics,
	})
	return a, nil
}

// Sessions is the holder's side: the application socket serves its streams.
func (a *Agent) Sessions() *session.Host { return a.sessions }

// Bootstrap is this agent's first start: its status, and the operator's word.
func (a *Agent) Bootstrap() *bootstrap.Bootstrap { return a.boot }

// Reach tells whether a leader is reached: OK, NO_LEADER or NO_QUORUM.
func (a *Agent) Reach() api.Reason { return a.sessions.Reach() }

// behindMax is how many entries of the log a voter may lack and have caught up:
// the last ones are on their way to everybody, at full load some hundred.
const behindMax = 1000

// Behind is how many entries of the log this voter lacks of what the leader had
// applied when it answered the last heartbeat. 0: it has caught up, to within
// behindMax, or is no voter. Its applications are served all the same; but whoever
// stops another voter now counts on one that cannot stand in for it yet.
func (a *Agent) Behind() uint64 {
	node := a.Node()
	if node == nil {
		return 0
	}
	lacks := behind(a.sessions.LeaderApplied(), node.AppliedIndex())
	if lacks > 0 && roleOf(node, a.cfg.Consensus.ServerID, true) != telemetry.Voter {
		return 0
	}
	return lacks
}

func behind(leader, self uint64) uint64 {
	if leader <= self+behindMax {
		return 0
	}
	return leader - self
}

// leaderLink is whom the current link leads to.
type leaderLink struct {
	serverID, address string
	term              uint64
}

// LeaderLink is the leader that this agent's link leads to, at which address,
// and the term it led when the link was made. linked is false, and the rest
// zero, while there is no link. A hint: it may have been deposed since.
func (a *Agent) LeaderLink() (serverID, address string, term uint64, linked bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	l := a.linked
	return l.serverID, l.address, l.term, l != leaderLink{}
}

func (a *Agent) setLink(l leaderLink) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.linked = l
}

// ServerID is this agent's Raft server id, from its data directory.
func (a *Agent) ServerID() string { return string(a.cfg.Consensus.ServerID) }

// ClusterID is the cluster this agent belongs to; empty while it looks for one.
func (a *Agent) ClusterID() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.decision == nil {
		return ""
	}
	return a.decision.ClusterID
}

// Node is this agent's Raft server, or nil where it is not a member.
func (a *Agent) Node() *consensus.Node {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.node
}

// Leading reports that this agent leads: its Establish was applied.
func (a *Agent) Leading() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.leading != nil
}

// Run belongs to a cluster until ctx ends, or until something breaks that the
// agent must not outlive. It returns after its goroutines have.
func (a *Agent) Run(ctx context.Context) error {
	ctx, a.stop = context.WithCancelCause(ctx)
	defer a.stop(nil)
	blind, err := a.cfg.Metrics.Observe(a.Observed)
	if err != nil {
		return fmt.Errorf("metrics: %w", err)
	}
	defer blind()
	var group sync.WaitGroup
	part := func(name string, run func(context.Context) error) {
		group.Go(func() {
			if err := run(ctx); err != nil && ctx.Err() == nil {
				a.stop(fmt.Errorf("%s: %w", name, err))
			}
		})
	}
	part("bootstrap", a.belong)
	part("router", a.route)
	part("ticker", a.tick)
	part("session log", a.sessions.Tell)
	if a.cfg.Gone != nil {
		part("proof of death", a.prove)
	}
	<-ctx.Done()
	close(a.over)
	// Streams first, so that no application is told a thing that ends; then the
	// parts; Raft last, since the parts read from it.
	a.sessions.Close()
	group.Wait()
	err = a.stopRaft()
	if cause := context.Cause(ctx); cause != ctx.Err() {
		err = errors.Join(cause, err)
	}
	return err
}

// belong waits for the decision which cluster this agent is of, starts its
// Raft server where it is a member, and watches for the rest of its life.
func (a *Agent) belong(ctx context.Context) error {
	d, err := a.boot.Run(ctx)
	if err != nil {
		return err
	}
	var node *consensus.Node
	if d.Kind != bootstrap.Follow {
		if node, err = a.startRaft(d.ClusterID); err != nil {
			return err
		}
	}
	a.decided(d, node)
	if d.Kind == bootstrap.Found {
		if err := a.found(node, d.Members); err != nil {
			return err
		}
	}
	a.cfg.Gossip.Publish(a.ServerID(), d.ClusterID)
	return a.boot.Watch(ctx)
}

func (a *Agent) startRaft(clusterID string) (*consensus.Node, error) {
	stores, err := a.cfg.Open()
	if err != nil {
		return nil, fmt.Errorf("open the Raft stores: %w", err)
	}
	a.stores = stores
	cfg := a.cfg.Consensus
	cfg.Address, cfg.ClusterID = a.cfg.Address, clusterID
	cfg.Transport, cfg.Logs, cfg.Stable, cfg.Snapshots = a.cfg.Transport(cfg.ServerID), stores.Logs, stores.Stable, stores.Snapshots
	cfg.Asker, cfg.Leader = a, leaderSide{a}
	cfg.Wall, cfg.Log = a.cfg.Wall, a.cfg.Log
	if a.cfg.Metrics != nil { // a nil one in it would be none
		cfg.Metrics = a.cfg.Metrics
	}
	cfg.Fatal = func(err error) { a.stop(fmt.Errorf("consensus: %w", err)) }
	node, err := consensus.Open(cfg)
	if err != nil {
		if stores.Close != nil {
			err = errors.Join(err, stores.Close())
		}
		return nil, fmt.Errorf("start Raft: %w", err)
	}
	return node, nil
}

// found gives an empty Raft the first list, and nothing to one that has it.
func (a *Agent) found(node *consensus.Node, members []bootstrap.Member) error {
	if !node.HasState() {
		var list []consensus.Server
		for _, m := range members {
			list = append(list, consensus.Server{ID: raft.ServerID(m.ServerID), Address: m.Address, Voter: true})
		}
		if err := node.Bootstrap(list); err != nil {
			return fmt.Errorf("bootstrap Raft: %w", err)
		}
	}
	return a.boot.Founded()
}

func (a *Agent) decided(d bootstrap.Decision, node *consensus.Node) {
	a.mu.Lock()
	a.decision, a.node = &d, node
	a.mu.Unlock()
	a.cfg.Log.Info("belongs to a cluster", key.Cluster, d.ClusterID, "member", node != nil)
	if node == nil { // a member's comes with Raft's configuration
		a.cfg.Log.Info("role", key.Role, telemetry.Forwarder)
	}
	signal(a.wake)
}

func (a *Agent) stopRaft() error {
	a.mu.Lock()
	node := a.node
	a.mu.Unlock()
	if node == nil {
		return nil
	}
	err := node.Close()
	a.deposed.Wait()
	if a.stores.Close != nil && !errors.Is(err, consensus.ErrCloseBound) {
		err = errors.Join(err, a.stores.Close())
	}
	return err
}

// tick drives the sessions' deadlines and heartbeats.
func (a *Agent) tick(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		var turned chan struct{}
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		case <-a.wake:
		case turned = <-a.probes:
		}
		timer.Reset(a.sessions.Tick())
		if turned != nil {
			close(turned)
		}
	}
}

// leaderSide is the agent as consensus sees it.
type leaderSide struct{ a *Agent }

func (s leaderSide) Established(l *consensus.Leadership, state *fsm.State) {
	a := s.a
	d := newLeading(l, a.cfg.Clock, a.cfg.Log)
	d.tracer, d.say = a.tracer, a.sessions.Say
	d.adopt(state)
	a.mu.Lock()
	a.leading = d
	a.mu.Unlock()
	d.owned.Go(d.sweep)
	a.cfg.Log.Info("leading", "term", l.Term())
}

func (s leaderSide) Admit(c *command.Command, state *fsm.State, touched bool) *command.Result {
	return s.a.current().admit(c, state, touched)
}

func (s leaderSide) Event(e fsm.Event) { s.a.current().event(e) }

func (s leaderSide) Deposed(l *consensus.Leadership) {
	a := s.a
	a.mu.Lock()
	d := a.leading
	a.leading = nil
	a.mu.Unlock()
	if d != nil {
		d.close()
		a.deposed.Go(d.wait)
		a.cfg.Log.Info("leading no more", "term", l.Term())
	}
}

// current is the leadership under way; consensus calls only while there is one.
func (a *Agent) current() *leading {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.leading
}

// AskTerm asks a voter's agent for its term, where gossip says that it is now
// and where Raft's configuration has it. Addresses are reused: an answer counts
// only as the server and cluster that was asked.
func (a *Agent) AskTerm(ctx context.Context, server consensus.ServerID, address string) (uint64, error) {
	ctx, cancel := context.WithCancel(ctx)
	places := a.addresses(server, address)
	type answer struct {
		term uint64
		err  error
	}
	answers := make(chan answer, len(places))
	var asking sync.WaitGroup
	defer asking.Wait()
	defer cancel()
	for _, place := range places {
		asking.Go(func() {
			term, err := a.askTermAt(ctx, server, place)
			answers <- answer{term, err}
		})
	}
	var errs []error
	for range places {
		x := <-answers
		if x.err == nil {
			return x.term, nil
		}
		errs = append(errs, x.err)
	}
	return 0, errors.Join(errs...)
}

func (a *Agent) askTermAt(ctx context.Context, server consensus.ServerID, address string) (uint64, error) {
	r, err := a.cfg.Network.Ask(ctx, address, &linkpb.Question{
		From: a.cfg.Name, Question: &linkpb.Question_Term{Term: &linkpb.Term{}},
	})
	if err != nil {
		return 0, err
	}
	t := r.GetTerm()
	if t == nil || !t.Member {
		return 0, fmt.Errorf("%s at %s is no Raft member", r.Agent, address)
	}
	if (r.ServerId != string(server) || r.ClusterId != a.ClusterID()) && !mutant.On("confirm-wrong-server") {
		return 0, fmt.Errorf("at %s answers server %s of cluster %s, not %s", address, r.ServerId, r.ClusterId, server)
	}
	return t.Term, nil
}
