package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"
)

// The settings that the agents have too; see package consensus.
const (
	nodePort        = 7950
	nodeLogCache    = 512
	nodePool        = 3
	nodeTimeout     = 10 * time.Second
	nodeLeaderLease = 500 * time.Millisecond
)

// nodeConfig makes a process one of the bare Raft servers.
type nodeConfig struct {
	Self  int      `json:"self"`
	Hosts []string `json:"hosts"`
	Dir   string   `json:"dir"`
}

// What a node is asked, one JSON value a line, and what it answers.
type (
	nodeRequest struct {
		// Run is empty where only who leads is asked.
		Run      workload      `json:"run,omitempty"`
		Workers  int           `json:"workers,omitempty"`
		Duration time.Duration `json:"duration,omitempty"`
		Cluster  []int         `json:"cluster,omitempty"`
	}
	nodeAnswer struct {
		// Leading: this node leads and has applied all that it committed.
		Leading bool   `json:"leading"`
		Term    uint64 `json:"term"`
		Sample  sample `json:"sample"`
		Error   string `json:"error,omitempty"`
	}
)

// node is one bare Raft server.
type node struct {
	raft  *raft.Raft
	locks *bareLocks
}

// runNode is the whole life of a node's process: it serves what comes in until
// that ends.
func runNode(config string, in io.Reader, out io.Writer) (err error) {
	var cfg nodeConfig
	if err := json.Unmarshal([]byte(config), &cfg); err != nil {
		return fmt.Errorf("%s: %w", nodeVariable, err)
	}
	n, closeAll, err := openNode(cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeAll()) }()
	requests, answers := json.NewDecoder(in), json.NewEncoder(out)
	for {
		var q nodeRequest
		if err := requests.Decode(&q); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("read a request: %w", err)
		}
		if err := answers.Encode(n.answer(q)); err != nil {
			return fmt.Errorf("write an answer: %w", err)
		}
	}
}

func openNode(cfg nodeConfig) (*node, func() error, error) {
	bolt, err := raftboltdb.New(raftboltdb.Options{
		Path:        filepath.Join(cfg.Dir, "raft.db"),
		BoltOptions: &bbolt.Options{Timeout: time.Second, NoFreelistSync: true, FreelistType: bbolt.FreelistMapType},
	})
	if err != nil {
		return nil, nil, err
	}
	closeAll := bolt.Close
	fail := func(err error) (*node, func() error, error) { return nil, nil, errors.Join(err, closeAll()) }
	logs, err := raft.NewLogCache(nodeLogCache, bolt)
	if err != nil {
		return fail(err)
	}
	snapshots, err := raft.NewFileSnapshotStore(cfg.Dir, 2, os.Stderr)
	if err != nil {
		return fail(err)
	}
	trans, err := raft.NewTCPTransport(cfg.address(cfg.Self), nil, nodePool, nodeTimeout, os.Stderr)
	if err != nil {
		return fail(err)
	}
	r := raft.DefaultConfig()
	r.LocalID = cfg.id(cfg.Self)
	r.LeaderLeaseTimeout = nodeLeaderLease
	r.NoLegacyTelemetry = true
	r.Logger = hclog.New(&hclog.LoggerOptions{Level: hclog.Warn, Output: os.Stderr})
	n := &node{locks: newBareLocks()}
	if n.raft, err = raft.NewRaft(r, n.locks, logs, bolt, snapshots, trans); err != nil {
		return fail(errors.Join(err, trans.Close()))
	}
	closeAll = func() error { return errors.Join(n.raft.Shutdown().Error(), trans.Close(), bolt.Close()) }
	if cfg.Self == 0 {
		if err := n.raft.BootstrapCluster(cfg.cluster()).Error(); err != nil {
			return fail(err)
		}
	}
	return n, closeAll, nil
}

func (c nodeConfig) id(i int) raft.ServerID { return raft.ServerID(fmt.Sprintf("bare%d", i)) }

func (c nodeConfig) address(i int) string {
	return net.JoinHostPort(c.Hosts[i], strconv.Itoa(nodePort))
}

func (c nodeConfig) cluster() (out raft.Configuration) {
	for i := range c.Hosts {
		out.Servers = append(out.Servers, raft.Server{ID: c.id(i), Address: raft.ServerAddress(c.address(i))})
	}
	return out
}

func (n *node) answer(q nodeRequest) (a nodeAnswer) {
	term := n.raft.CurrentTerm()
	fail := func(err error) nodeAnswer { return nodeAnswer{Term: n.raft.CurrentTerm(), Error: err.Error()} }
	if n.raft.State() != raft.Leader {
		return nodeAnswer{Term: term}
	}
	if err := n.raft.Barrier(nodeTimeout).Error(); err != nil {
		return fail(err)
	}
	if q.Run != "" {
		s, err := n.load(q).run(context.Background()) // the caller ends the process
		if err != nil {
			return fail(err)
		}
		a.Sample = s
		a.Sample.Clients = 0 // the proposers are part of the leader's process
	}
	// The same term at the end: it led all the time.
	a.Term, a.Leading = term, n.raft.State() == raft.Leader && n.raft.CurrentTerm() == term
	return a
}

func (n *node) load(q nodeRequest) load {
	l := load{workers: q.Workers, duration: q.Duration, cluster: q.Cluster}
	switch q.Run {
	case pairs:
		l.step = timed(n.pair)
	case handOffs:
		l.step = n.contend(q.Workers)
	case reads:
		l.step = timed(n.read(func() raft.Future { return n.raft.Barrier(nodeTimeout) }))
	case verifies:
		l.step = timed(n.read(n.raft.VerifyLeader))
	}
	return l
}

func (n *node) pair(_ context.Context, worker int) error {
	for _, op := range []bareOp{opAcquire, opRelease} {
		if _, err := n.apply(op, lockOf(worker), worker); err != nil {
			return err
		}
	}
	return nil
}

// contend is a worker's turn at the one lock. A grant to another worker travels
// through memory: as fast as can be.
func (n *node) contend(workers int) func(context.Context, int) (time.Duration, error) {
	grants := n.locks.watch(workers)
	var relay baton
	return func(ctx context.Context, worker int) (time.Duration, error) {
		granted, err := n.apply(opAcquire, lockShared, worker)
		if err != nil {
			return 0, err
		}
		if !granted {
			select {
			case <-grants[worker]:
			case <-ctx.Done():
				return 0, ctx.Err()
			}
		}
		took := relay.taken()
		relay.given()
		_, err = n.apply(opRelease, lockShared, worker)
		return took, err
	}
}

// read looks at a lock once the library has proved what it can.
func (n *node) read(prove func() raft.Future) func(context.Context, int) error {
	return func(_ context.Context, worker int) error {
		if err := prove().Error(); err != nil {
			return err
		}
		n.locks.holder(lockOf(worker))
		return nil
	}
}

func (n *node) apply(op bareOp, lock uint64, worker int) (granted bool, err error) {
	f := n.raft.Apply(bareCommand(op, lock, uint64(worker)), nodeTimeout)
	if err := f.Error(); err != nil {
		return false, err
	}
	granted, _ = f.Response().(bool)
	return granted, nil
}
