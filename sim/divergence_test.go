package sim

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
)

// tape is a testing.TB whose failures are the test's to judge.
type tape struct {
	testing.TB

	mu       sync.Mutex // guards failures
	failures []string
}

func (p *tape) Errorf(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.failures = append(p.failures, fmt.Sprintf(format, args...))
}

func (p *tape) Failed() bool { return len(p.told()) > 0 }

func (p *tape) told() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.failures...)
}

// TestHeartbeatFastPathDiverges is hashicorp/raft#695 on this harness: a
// deposed leader whose term is raised by the heartbeat handler, beside its main
// loop, writes its next applies under the new leader's term. If the first case
// finds nothing any more, either raft was mended or this harness sees less than
// it should.
func TestHeartbeatFastPathDiverges(t *testing.T) {
	for _, c := range []struct {
		name     string
		fastPath bool
	}{{"with a heartbeat handler", true}, {"without", false}} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				told := &tape{TB: t}
				deposeQuietly(New(told, 1), c.fastPath)
				diverged := false
				for _, failure := range told.told() {
					if !strings.Contains(failure, "replicas differ") {
						t.Error(failure)
					}
					diverged = true
				}
				same(t, "diverged", diverged, c.fastPath)
			})
		})
	}
}

// deposeQuietly has a leader with a long lease (it stands for one that was
// paused before it looked at its lease) learn of its successor by heartbeats
// alone, and take three applies then.
func deposeQuietly(w *World, fastPath bool) {
	b := &bare{w: w, nodes: map[*Host]*node{}, fastPath: fastPath}
	b.tune = func(h *Host, c *raft.Config) {
		if h.Name == "a" {
			c.HeartbeatTimeout, c.ElectionTimeout, c.LeaderLeaseTimeout = 20*time.Second, 20*time.Second, 20*time.Second
		}
	}
	b.boot(3)
	defer b.close()
	old, first := b.hosts[0], b.awaitLeader(time.Minute)
	b.node(first).raft.LeadershipTransferToServer("a", raft.ServerAddress(old.Addr()))
	time.Sleep(time.Second)
	if b.leader() != old {
		w.Fail("no transfer")
		return
	}
	w.Net.Isolate(old)
	time.Sleep(4 * time.Second)
	for _, h := range b.hosts[1:] {
		for i := range 3 {
			b.node(h).raft.Apply([]byte{byte(i)}, time.Second)
		}
	}
	time.Sleep(time.Second)
	w.Net.Heal()
	w.Net.HeartbeatsOnly(old)
	r, term := b.node(old).raft, b.node(b.hosts[1]).raft.CurrentTerm()
	for r.CurrentTerm() < term {
		time.Sleep(time.Millisecond)
	}
	for range 3 {
		r.Apply([]byte("late"), time.Second)
	}
	time.Sleep(50 * time.Millisecond)
	w.Net.Heal()
	time.Sleep(5 * time.Second)
}
