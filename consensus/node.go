package consensus

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"github.com/raftlock/raftlock/fsm"
)

var (
	// ErrClosed: the node is closed. Nothing was done.
	ErrClosed = errors.New("consensus is closed")
	// ErrCloseBound: Close gave up waiting; goroutines may still run and the
	// stores may still be written to.
	ErrCloseBound = errors.New("consensus did not end in time")
	// ErrStalled goes to Fatal: a round took longer than ApplyBound, and the
	// leadership could not be handed over.
	ErrStalled = errors.New("leader cannot commit and cannot hand over")
	// ErrTransferStuck goes to Fatal: raft refuses every entry for the sake of
	// a transfer that ended long ago (hashicorp/raft#696). Only a restart helps.
	ErrTransferStuck = errors.New("leadership transfer never ends")
	// ErrWrongCluster goes to Fatal: the log belongs to another cluster.
	ErrWrongCluster = errors.New("log belongs to another cluster")
)

// Server is a member of the Raft configuration.
type Server struct {
	ID      ServerID
	Address string
	// Voter: counts for quorums. Others are standbys.
	Voter bool
}

// Node is one replica. All methods are safe for concurrent use.
type Node struct {
	cfg     Config
	log     *slog.Logger
	machine *machine
	stores  *failStop
	witness *witness
	raft    *raft.Raft

	fatalOnce sync.Once
	current   atomic.Pointer[Leadership] // established and not deposed
	steps     atomic.Pointer[steps]      // of the round under way; nil: nobody records it

	notify  chan bool     // from raft; read by drain
	poke    chan struct{} // something about leadership changed
	turns   chan struct{} // the proposer takes from it at each turn; see Probe
	closing chan struct{}
	shut    chan struct{} // raft has ended
	led     chan struct{} // lead has ended

	closeOnce sync.Once
	closeErr  error

	mu     sync.Mutex // guards closed, and adding to tasks against waiting for them
	closed bool
	tasks  sync.WaitGroup
}

// Open starts a replica on the stores: it goes on where they left off, and with
// empty ones it waits to be bootstrapped or to be added by a leader. The error
// names everything wrong with the configuration, or the store that cannot be
// read or written. The transport is closed if it fails.
func Open(cfg Config) (*Node, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("consensus configuration: %w", err)
	}
	n := &Node{
		cfg:     cfg,
		log:     cfg.Log.With("component", "consensus"),
		notify:  make(chan bool, 1),
		poke:    make(chan struct{}, 1),
		turns:   make(chan struct{}),
		closing: make(chan struct{}),
		shut:    make(chan struct{}),
		led:     make(chan struct{}),
	}
	n.machine = newMachine(cfg.Observe, &n.steps)
	n.stores = &failStop{fatal: n.fatal}
	n.witness = &witness{log: n.log, self: cfg.ServerID, peer: func() []byte {
		return cfg.Transport.EncodePeer(cfg.ServerID, cfg.Transport.LocalAddr())
	}}
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		n.drain()
	}()
	var err error
	if n.raft, err = n.start(); err != nil {
		close(n.shut)
		<-drained
		return nil, fmt.Errorf("start raft: %w", err)
	}
	n.stores.run()
	n.witness.raft.Store(n.raft)
	go func() {
		defer close(n.led)
		n.lead()
	}()
	return n, nil
}

// start turns the panics of a library that cannot write its term into errors.
func (n *Node) start() (r *raft.Raft, err error) {
	trans := slowPath{preVoting: n.cfg.Transport.(preVoting), bound: n.cfg.ElectionTimeout, spawn: n.spawn}
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%v", p)
		}
		if err != nil {
			_ = trans.Close()
		}
	}()
	if err := mendLog(n.cfg.Logs, n.cfg.Snapshots); err != nil {
		return nil, fmt.Errorf("compare log and snapshot: %w", err)
	}
	return raft.NewRaft(n.cfg.raft(n.notify), n.machine,
		witnessedLogs{steppedLogs{failStopLogs{n.cfg.Logs, n.stores}, &n.steps}, n.witness},
		witnessedStable{failStopStable{n.cfg.Stable, n.stores}, n.witness},
		failStopSnapshots{n.cfg.Snapshots, n.cfg.Logs, n.stores},
		trans)
}

// drain reads what raft says about leadership. Raft's main loop stands still
// while it is unread. The value is not looked at: lead reads state and term,
// which also shows a leadership that was lost and regained in between.
func (n *Node) drain() {
	for {
		select {
		case <-n.notify:
			select {
			case n.poke <- struct{}{}:
			default:
			}
		case <-n.shut:
			return
		}
	}
}

// Close ends the leadership, if any, without handing it over (see Transfer),
// and then the replica. It waits, at most CloseBound, and is safe to repeat.
func (n *Node) Close() error {
	n.closeOnce.Do(func() { n.closeErr = n.close() })
	return n.closeErr
}

func (n *Node) close() error {
	n.mu.Lock()
	n.closed = true
	n.mu.Unlock()
	close(n.closing)
	bound := time.NewTimer(n.cfg.CloseBound)
	defer bound.Stop()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		// First lead: its round in flight is given a moment to be answered.
		<-n.led
		_ = n.raft.Shutdown().Error()
		close(n.shut)
		n.tasks.Wait()
	}()
	select {
	case <-ended:
		return nil
	case <-bound.C:
		return ErrCloseBound
	}
}

// spawn runs f on a goroutine that Close waits for; false when closed.
func (n *Node) spawn(f func()) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return false
	}
	n.tasks.Go(f)
	return true
}

func (n *Node) fatal(err error) {
	n.fatalOnce.Do(func() {
		n.log.Error("consensus must stop", "error", err)
		n.cfg.Fatal(err)
	})
}

// Bootstrap makes this replica the first of a cluster with exactly these
// members. Only on empty stores; the error is raft.ErrCantBootstrap otherwise.
func (n *Node) Bootstrap(servers []Server) error {
	var c raft.Configuration
	for _, s := range servers {
		c.Servers = append(c.Servers, raft.Server{ID: s.ID, Address: raft.ServerAddress(s.Address), Suffrage: suffrage(s.Voter)})
	}
	err := n.await(context.Background(), func() raft.Future { return n.raft.BootstrapCluster(c) })
	if err != nil {
		return fmt.Errorf("bootstrap: %w", err)
	}
	return nil
}

func suffrage(voter bool) raft.ServerSuffrage {
	if voter {
		return raft.Voter
	}
	return raft.Nonvoter
}

// HasState reports whether this replica ever belonged to a cluster: it has a
// log, a snapshot or a term.
func (n *Node) HasState() bool { return n.raft.LastIndex() > 0 || n.raft.CurrentTerm() > 0 }

// Term is raft's current term: what an agent answers when a leader asks for it
// (design section 5). It is on disk before it is said.
func (n *Node) Term() uint64 { return n.raft.CurrentTerm() }

// LeaderAddr is who leads as far as this replica knows; empty when unknown. A
// hint.
func (n *Node) LeaderAddr() (ServerID, string) {
	addr, id := n.raft.LeaderWithID()
	return id, string(addr)
}

// State is raft's: follower, candidate, leader or shut down. A leader by State
// may have been deposed without knowing it.
func (n *Node) State() raft.RaftState { return n.raft.State() }

// Servers is the latest configuration this replica has in its log, committed or
// not.
func (n *Node) Servers() ([]Server, error) {
	f := n.raft.GetConfiguration()
	if err := f.Error(); err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	var out []Server
	for _, s := range f.Configuration().Servers {
		out = append(out, Server{ID: s.ID, Address: string(s.Address), Voter: s.Suffrage == raft.Voter})
	}
	return out, nil
}

// AppliedIndex is the last index given to the state machine, which may still be
// at it.
func (n *Node) AppliedIndex() uint64 { return n.raft.AppliedIndex() }

// LastIndex is the last index in the log or snapshot.
func (n *Node) LastIndex() uint64 { return n.raft.LastIndex() }

// CommitIndex is the last index known here to be committed.
func (n *Node) CommitIndex() uint64 { return n.raft.CommitIndex() }

// StaleView is the state as applied here, however old. For reads marked stale.
func (n *Node) StaleView() *fsm.View { return n.machine.view() }

// Inspect calls f with the state while nothing is applied. f must be quick,
// must not keep or change it, and must not call the node.
func (n *Node) Inspect(f func(*fsm.State)) { n.machine.inspect(f) }

// Read returns a view that contains everything that was acknowledged to anybody
// before the call (a linearizable read). Errors as Leadership.Confirm; safe to
// repeat.
//
// The view is taken after the confirm. Whatever an earlier leader acknowledged
// lies before this leadership's Establish, which is applied; whatever this one
// acknowledged, it applied here first; and the confirm says that, at some time
// after the call, there was no later one.
func (n *Node) Read(ctx context.Context) (*fsm.View, error) {
	l := n.current.Load()
	if l == nil {
		return nil, ErrNotLeading
	}
	if err := l.Confirm(ctx); err != nil {
		return nil, err
	}
	return n.machine.view(), nil
}
