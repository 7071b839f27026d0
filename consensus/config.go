package consensus

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/hashicorp/raft"

	"github.com/raftlock/raftlock/fsm"
)

// ServerID names a Raft server: random, made with its data directory, so that
// an emptied directory is a new server and never an old voter.
type ServerID = raft.ServerID

// Config is what a Node is made of. Start from DefaultConfig; the fields it
// leaves empty must be given, except Metrics and Observe.
type Config struct {
	// ServerID and Address are this server's, as the others know them.
	ServerID ServerID
	Address  string
	// ClusterID is the cluster this data directory belongs to. A state that
	// belongs to another one stops the node.
	ClusterID string

	// Transport carries Raft's messages. It must support pre-vote. The node
	// wraps it (no heartbeat fast path, no pipelining) and closes it.
	Transport raft.Transport
	// The stores stay the caller's: close them after the node.
	Logs      raft.LogStore
	Stable    raft.StableStore
	Snapshots raft.SnapshotStore

	// Asker and Leader may be called before Open returns.
	Asker  Asker
	Leader Leader

	// Wall stamps entries, for people only.
	Wall func() time.Time
	Log  *slog.Logger

	// HeartbeatTimeout is how long a follower hears nothing before it stands;
	// default 1 s. A follower's disk writes delay its heartbeats, so less than
	// 1 s on real disks means elections for nothing.
	HeartbeatTimeout time.Duration
	// ElectionTimeout is how long a candidate waits; default 1 s.
	ElectionTimeout time.Duration
	// LeaderLease is how long a leader without a quorum goes on; default 500 ms.
	// It bounds how long it takes to notice, and proves nothing.
	LeaderLease time.Duration
	// CommitTimeout is how soon an idle leader tells what is committed; default
	// 50 ms.
	CommitTimeout time.Duration

	// SnapshotInterval, SnapshotThreshold: a snapshot is taken when, looking
	// every interval to twice that, as many entries came since the last one.
	// TrailingLogs are kept behind it for followers that lag. Defaults 2 min,
	// 8192, 10240.
	SnapshotInterval  time.Duration
	SnapshotThreshold uint64
	TrailingLogs      uint64

	// QueueMax bounds the proposals waiting for their round; default 4096.
	// Vital ones have ten times as many places of their own.
	QueueMax int
	// QueueBytesMax bounds what is waiting in bytes, vital ones apart; default
	// 64 MiB. Vital ones have as many bytes of their own.
	QueueBytesMax int
	// ApplyBound is the longest wait for one round; default 10 s. A leader whose
	// round takes longer (its disk stands still while its heartbeats go on)
	// gives its leadership up, and if it cannot, stops the node.
	ApplyBound time.Duration
	// ConfirmTimeout is the longest a confirm round asks; default 1 s.
	ConfirmTimeout time.Duration
	// CloseBound is the longest Close waits; default 15 s.
	CloseBound time.Duration

	// Fatal is called at most once, when the node must not go on: a store write
	// failed, or leadership is stuck. The agent stops. It may be called on
	// raft's own goroutines, so it must not block and must not wait for Close.
	Fatal func(error)

	// Metrics takes what is measured; nil: nothing is.
	Metrics Metrics

	// Observe, for tests and simulation, is called after each applied entry, on
	// every replica, under the adapter's mutex.
	Observe func(s *fsm.State, o fsm.Outcome)
}

// Metrics takes what is measured. It is called on the proposer's goroutine, for
// every command, so it must be quick.
type Metrics interface {
	// Committed: a command took so long from its proposal to being applied here.
	Committed(took time.Duration)
}

// DefaultConfig returns the defaults named at Config's fields.
func DefaultConfig() Config {
	return Config{
		HeartbeatTimeout:  time.Second,
		ElectionTimeout:   time.Second,
		LeaderLease:       500 * time.Millisecond,
		CommitTimeout:     50 * time.Millisecond,
		SnapshotInterval:  2 * time.Minute,
		SnapshotThreshold: 8192,
		TrailingLogs:      10240,
		QueueMax:          4096,
		QueueBytesMax:     64 << 20,
		ApplyBound:        10 * time.Second,
		ConfirmTimeout:    time.Second,
		CloseBound:        15 * time.Second,
	}
}

// Validate returns all that is wrong with the configuration at once.
func (c Config) Validate() error {
	var errs []error
	need := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	need(c.ServerID != "", "server id is missing")
	need(c.Address != "", "address is missing")
	need(c.ClusterID != "", "cluster id is missing")
	need(c.Transport != nil, "transport is missing")
	if c.Transport != nil {
		_, ok := c.Transport.(raft.WithPreVote)
		need(ok, "transport %T has no pre-vote: a server that was cut off would depose the leader on its return", c.Transport)
	}
	need(c.Logs != nil, "log store is missing")
	need(c.Stable != nil, "stable store is missing")
	need(c.Snapshots != nil, "snapshot store is missing")
	need(c.Asker != nil, "asker is missing")
	need(c.Leader != nil, "leader's side is missing")
	need(c.Wall != nil, "wall clock is missing")
	need(c.Log != nil, "log is missing")
	need(c.Fatal != nil, "fatal is missing")
	need(c.QueueMax > 0, "queue bound %d is not positive", c.QueueMax)
	need(c.QueueBytesMax >= entryBytesMax, "queue bound of %d bytes is below one entry's %d", c.QueueBytesMax, entryBytesMax)
	need(c.ApplyBound > c.HeartbeatTimeout+c.ElectionTimeout,
		"apply bound %v is within one election (%v)", c.ApplyBound, c.HeartbeatTimeout+c.ElectionTimeout)
	need(c.ConfirmTimeout > 0, "confirm timeout %v is not positive", c.ConfirmTimeout)
	need(c.CloseBound > 0, "close bound %v is not positive", c.CloseBound)
	if c.ServerID != "" {
		if err := raft.ValidateConfig(c.raft(nil)); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// raft is the library's configuration. BatchApplyCh stays off: one round is in
// flight, so there is nothing to batch, and a buffered entry would outlive the
// time-out of its enqueuing.
func (c Config) raft(notify chan<- bool) *raft.Config {
	r := raft.DefaultConfig()
	r.LocalID = c.ServerID
	r.HeartbeatTimeout = c.HeartbeatTimeout
	r.ElectionTimeout = c.ElectionTimeout
	r.LeaderLeaseTimeout = c.LeaderLease
	r.CommitTimeout = c.CommitTimeout
	r.SnapshotInterval = c.SnapshotInterval
	r.SnapshotThreshold = c.SnapshotThreshold
	r.TrailingLogs = c.TrailingLogs
	r.NotifyCh = notify
	r.NoLegacyTelemetry = true
	r.ShutdownOnRemove = false
	if c.Log != nil {
		r.Logger = newHCLog(c.Log.With("component", "raft"))
	}
	return r
}
