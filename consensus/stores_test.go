package consensus

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/raftlock/raftlock/fsm"
)

// TestFilesKeepTheState: real files are written, closed, opened again, and the
// state is the same, index by index, from a snapshot and the log behind it.
func TestFilesKeepTheState(t *testing.T) {
	bubble(t, func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "raft")
		var stores *Stores
		c := &cluster{t: t, net: newNetwork(), hashes: make(map[uint64]uint64), by: make(map[uint64]ServerID)}
		c.tune = func(cfg *Config) {
			var err error
			if stores, err = OpenStores(dir, testLog()); err != nil {
				t.Fatal(err)
			}
			cfg.Logs, cfg.Stable, cfg.Snapshots = stores.Logs, stores.Stable, stores.Snapshots
			cfg.SnapshotInterval, cfg.SnapshotThreshold, cfg.TrailingLogs = 2*time.Second, 20, 10
		}
		m := c.add("s0")
		if m.node.HasState() {
			t.Error("an empty directory has a state")
		}
		if err := m.node.Bootstrap([]Server{{ID: m.id, Address: string(m.addr), Voter: true}}); err != nil {
			t.Fatal(err)
		}
		var term, index, hash uint64
		for round := range 3 {
			m, l := c.leader()
			if l.Term() <= term {
				t.Errorf("term %d after %d", l.Term(), term)
			}
			term = l.Term()
			for i := range 30 {
				if a := propose(t, l, acquire(fmt.Sprintf("%d-%d", round, i))); a.err != nil {
					t.Fatal(a.err)
				}
			}
			if round == 0 {
				time.Sleep(10 * time.Second)
				if list, err := stores.Snapshots.List(); err != nil || len(list) == 0 {
					t.Errorf("no snapshot: %v", err)
				}
			}
			m.node.Inspect(func(s *fsm.State) { index, hash = s.Index(), s.Hash() })
			if _, err := OpenStores(dir, testLog()); err == nil {
				t.Error("two processes have the same stores open")
			}
			if err := m.node.Close(); err != nil {
				t.Fatal(err)
			}
			for range 2 {
				if err := stores.Close(); err != nil {
					t.Fatal(err)
				}
			}
			c.open(m)
			if !m.node.HasState() {
				t.Error("the state is gone")
			}
			c.leader()
			// What was applied again was compared by its hash at each index.
			if c.hashes[index] != hash {
				t.Errorf("hash at %d: %x, was %x", index, c.hashes[index], hash)
			}
			m.node.Inspect(func(s *fsm.State) {
				if err := s.Check(); err != nil {
					t.Error(err)
				}
			})
		}
		c.close()
		if err := stores.Close(); err != nil {
			t.Error(err)
		}
		modes := map[string]os.FileMode{".": 0o700, "snapshots": 0o700, "raft.db": 0o600}
		for name, want := range modes {
			info, err := os.Stat(filepath.Join(dir, name))
			if err != nil || info.Mode().Perm() != want {
				t.Errorf("%s: %v, want %v (%v)", name, info.Mode().Perm(), want, err)
			}
		}
	})
}

func TestOpenStoresNamesTheDirectory(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenStores(file, testLog()); err == nil {
		t.Error("a file is a directory")
	}
}

// TestFuturesCanBeAbandoned: the library's futures still have what abandonable
// looks for; without it a wait could outlive the node.
func TestFuturesCanBeAbandoned(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newCluster(t, 3, 0, nil)
		defer c.close()
		m, _ := c.leader()
		c.net.cut(m.addr, c.addrs(m)...)
		futures := map[string]raft.Future{
			"apply":    m.node.raft.Apply([]byte("x"), time.Second),
			"change":   m.node.raft.AddNonvoter("x", "x", 0, time.Second),
			"transfer": m.node.raft.LeadershipTransfer(),
		}
		for name, f := range futures {
			stop := make(chan struct{})
			if !abandonable(f, stop) {
				t.Errorf("%s: a wait for %T cannot be ended", name, f)
				continue
			}
			close(stop)
			start := time.Now()
			if err := f.Error(); err == nil || time.Since(start) != 0 {
				t.Errorf("%s: %v after %v", name, err, time.Since(start))
			}
		}
	})
}
