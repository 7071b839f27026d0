package consensus

import (
	"fmt"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// bare is three servers of the library with nothing of ours around it, on its
// own transport or one that a test wraps. They are called "0" to "2".
type bare struct {
	t      testing.TB
	nodes  [3]*raft.Raft
	lists  [3]*list
	disks  [3]*disk
	layers [3]*pipeListener
}

func newBare(t testing.TB, trans func(*pipeListener) raft.Transport, tune func(i int, cfg *raft.Config)) *bare {
	t.Helper()
	b, net := &bare{t: t}, &pipes{}
	var conf raft.Configuration
	for i := range b.nodes {
		name := fmt.Sprint(i)
		conf.Servers = append(conf.Servers, raft.Server{ID: raft.ServerID(name), Address: raft.ServerAddress(name)})
	}
	for i := range b.nodes {
		b.layers[i], b.lists[i], b.disks[i] = net.listen(conf.Servers[i].Address), &list{}, newDisk()
		cfg, via, snapshots := raft.DefaultConfig(), trans(b.layers[i]), raft.NewInmemSnapshotStore()
		cfg.LocalID, cfg.Logger = conf.Servers[i].ID, newHCLog(testLog())
		if tune != nil {
			tune(i, cfg)
		}
		err := raft.BootstrapCluster(cfg, b.disks[i], b.disks[i], snapshots, via, conf)
		if err == nil {
			b.nodes[i], err = raft.NewRaft(cfg, b.lists[i], b.disks[i], b.disks[i], snapshots, via)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return b
}

// lead waits for a leader that is not except.
func (b *bare) lead(except int) int {
	b.t.Helper()
	leader := -1
	until(b.t, "somebody leads", func() bool {
		for i, n := range b.nodes {
			if i != except && n.State() == raft.Leader {
				leader = i
			}
		}
		return leader >= 0
	})
	return leader
}

func (b *bare) apply(i int, what string) {
	b.t.Helper()
	if err := b.nodes[i].Apply([]byte(what), 0).Error(); err != nil {
		b.t.Fatal(err)
	}
}

// close ends the connections first: shutting down waits for what hangs on them.
func (b *bare) close() {
	for _, l := range b.layers {
		_ = l.Close()
	}
	for _, n := range b.nodes {
		if err := n.Shutdown().Error(); err != nil {
			b.t.Error(err)
		}
	}
	time.Sleep(time.Minute) // what is given up by its time-out
}
