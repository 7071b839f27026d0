package consensus

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// TestLogThatASnapshotContradicts is hashicorp/raft#697: a follower has entries
// that were never committed, and gets a snapshot that ends among them. The
// library alone installs it for ever and never has what comes after. When the
// first half fails, the library was mended, and dropConflicting may go.
func TestLogThatASnapshotContradicts(t *testing.T) {
	for _, alone := range []bool{true, false} {
		t.Run(map[bool]string{true: "library alone", false: "ours"}[alone], func(t *testing.T) {
			bubble(t, func(t *testing.T) { contradicted(t, alone) })
		})
	}
}

func contradicted(t *testing.T, alone bool) {
	c := newCluster(t, 3, 0, func(cfg *Config) {
		cfg.SnapshotInterval, cfg.SnapshotThreshold, cfg.TrailingLogs = 5*time.Second, 20, 5
	})
	m, _ := c.leader()
	if err := m.node.Transfer(t.Context(), "", ""); err != nil {
		t.Fatal(err)
	}
	m, l := c.leader(m) // of a term above 1
	for i := range 60 {
		if a := propose(t, l, acquire(fmt.Sprint(i))); a.err != nil {
			t.Fatal(a.err)
		}
	}
	time.Sleep(30 * time.Second)
	kept, err := m.snapshots.List()
	if err != nil || len(kept) == 0 || kept[0].Term < 2 {
		t.Fatalf("no snapshot: %v, %v", kept, err)
	}
	f := c.followers(m)[0]
	if err := f.node.Close(); err != nil {
		t.Fatal(err)
	}
	another(t, f, m, kept[0].Index+10)
	var installs atomic.Int32
	c.net.set(func() {
		c.net.allow = func(_, _ raft.ServerAddress, request any) bool {
			if _, ok := request.(*raft.InstallSnapshotRequest); ok {
				installs.Add(1)
			}
			return true
		}
	})
	if alone {
		end := libraryAlone(t, c, f)
		defer end()
	} else {
		c.open(f)
		select {
		case err := <-f.fatal:
			if !errors.Is(err, ErrLogConflicts) {
				t.Fatalf("fatal: %v", err)
			}
		case <-time.After(time.Minute):
			t.Fatal("it goes on with its log")
		}
		if err := f.node.Close(); err != nil {
			t.Fatal(err)
		}
		c.open(f) // as its supervisor does
	}
	if a := propose(t, l, acquire("after")); a.err != nil {
		t.Fatal(a.err)
	}
	time.Sleep(5 * time.Second)
	last, _ := m.disk.LastIndex()
	has, _ := f.disk.LastIndex()
	switch n := installs.Load(); {
	case alone && n < 10:
		t.Errorf("the library alone came through after %d installs", n)
	case !alone && (n > 2 || has != last): // the first one was not answered
		t.Errorf("%d installs, the last entry is %d of %d", n, has, last)
	}
	for _, x := range c.members {
		if x != f || !alone {
			if err := x.node.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

// another gives a server a log that nobody else has: up to an index, and of the
// first term. It never had a snapshot.
func another(t *testing.T, f, m *member, last uint64) {
	t.Helper()
	servers, err := m.node.Servers()
	if err != nil {
		t.Fatal(err)
	}
	var conf raft.Configuration
	for _, s := range servers {
		conf.Servers = append(conf.Servers, raft.Server{ID: raft.ServerID(s.ID), Address: raft.ServerAddress(s.Address)})
	}
	f.disk, f.snapshots = newDisk(), raft.NewInmemSnapshotStore()
	logs := []*raft.Log{{Index: 1, Term: 1, Type: raft.LogConfiguration, Data: raft.EncodeConfiguration(conf)}}
	for i := uint64(2); i <= last; i++ {
		logs = append(logs, &raft.Log{Index: i, Term: 1, Type: raft.LogNoop})
	}
	if err := errors.Join(f.disk.StoreLogs(logs), f.disk.SetUint64([]byte(storedTerm), 1)); err != nil {
		t.Fatal(err)
	}
}

// libraryAlone runs a server without what package consensus puts around its
// stores.
func libraryAlone(t *testing.T, c *cluster, f *member) (end func()) {
	t.Helper()
	cfg := c.config(f)
	notify := make(chan bool, 100)
	var none atomic.Pointer[steps]
	r, err := raft.NewRaft(cfg.raft(notify), newMachine(cfg.Observe, &none), f.disk, f.disk, f.snapshots,
		slowPath{preVoting: cfg.Transport.(preVoting), bound: cfg.ElectionTimeout, spawn: func(f func()) bool { go f(); return true }})
	if err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := r.Shutdown().Error(); err != nil {
			t.Error(err)
		}
	}
}

// TestLogIsMendedAtTheStart: the agent died after the snapshot was kept and
// before its log was cut.
func TestLogIsMendedAtTheStart(t *testing.T) {
	for _, test := range []struct {
		name       string
		term, last uint64
	}{{"contradicts", 2, 6}, {"agrees", 1, 9}} {
		t.Run(test.name, func(t *testing.T) {
			logs, snapshots := raft.NewInmemStore(), raft.NewInmemSnapshotStore()
			for i := uint64(1); i <= 9; i++ {
				if err := logs.StoreLog(&raft.Log{Index: i, Term: 1}); err != nil {
					t.Fatal(err)
				}
			}
			sink, err := snapshots.Create(1, 7, test.term, raft.Configuration{}, 1, nil)
			if err == nil {
				err = sink.Close()
			}
			if err == nil {
				err = mendLog(logs, snapshots)
			}
			if last, _ := logs.LastIndex(); err != nil || last != test.last {
				t.Errorf("the log ends at %d, not %d: %v", last, test.last, err)
			}
		})
	}
}
