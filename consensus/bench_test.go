package consensus

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/raftlock/raftlock/fsm/command"
)

const benchProposers = 64

// benchLeader is a leader of three in real time, without network or disk.
func benchLeader(b *testing.B) *Leadership {
	c := newCluster(b, 3, 0, func(cfg *Config) {
		cfg.HeartbeatTimeout, cfg.ElectionTimeout, cfg.LeaderLease = 3*time.Second, 3*time.Second, 3*time.Second
		cfg.Observe = nil
	})
	c.net.latency = 0
	b.Cleanup(c.close)
	_, l := c.leader()
	return l
}

func closedLoop(b *testing.B, do func(name string)) {
	b.ResetTimer()
	var next atomic.Int64
	var all sync.WaitGroup
	for range benchProposers {
		all.Go(func() {
			for i := next.Add(1); i <= int64(b.N); i = next.Add(1) {
				do(fmt.Sprint(i % 4096))
			}
		})
	}
	all.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "commands/s")
}

// BenchmarkGroupCommit is the path of proposals.
func BenchmarkGroupCommit(b *testing.B) {
	l := benchLeader(b)
	closedLoop(b, func(name string) {
		if a := propose(b, l, acquire(name)); a.err != nil {
			b.Error(a.err)
		}
	})
}

// BenchmarkBareApply is what it is compared with: an entry for each command,
// batched by the library.
func BenchmarkBareApply(b *testing.B) {
	l := benchLeader(b)
	closedLoop(b, func(name string) {
		data, err := proto.Marshal(&command.Entry{Format: 1, Term: l.Term(), Commands: []*command.Command{acquire(name)}})
		if err != nil {
			b.Error(err)
		}
		if err := l.node.raft.Apply(data, 0).Error(); err != nil {
			b.Error(err)
		}
	})
}

// BenchmarkConfirm is a confirm round shared by those who ask at once.
func BenchmarkConfirm(b *testing.B) {
	l := benchLeader(b)
	closedLoop(b, func(string) {
		if err := l.Confirm(b.Context()); err != nil {
			b.Error(err)
		}
	})
}
