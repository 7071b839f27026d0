package consensus

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/raftlock/raftlock/fsm"
	"github.com/raftlock/raftlock/fsm/command"
)

// patientProbe is a Probe with a bound in virtual time.
func patientProbe(n *Node) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return n.Probe(ctx)
}

func TestProbeOfTheLiving(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newCluster(t, 3, 1, nil)
		defer c.close()
		leader, _ := c.leader()
		for _, m := range c.members {
			if err := patientProbe(m.node); err != nil {
				t.Errorf("%s, one of four: %v", m.id, err)
			}
		}
		// A voter that nobody hears is not stuck, whatever it believes to be.
		c.net.cut(leader.addr, c.addrs(leader)...)
		for range 20 {
			if err := patientProbe(leader.node); err != nil {
				t.Fatalf("a voter without a quorum: %v", err)
			}
			time.Sleep(100 * time.Millisecond)
		}
	})
}

// A leader whose log store hangs leads on: its heartbeats need no disk.
func TestProbeOfAHangingDisk(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newCluster(t, 1, 0, nil)
		defer c.close()
		m, l := c.leader()
		hold := make(chan struct{})
		m.disk.set(func() { m.disk.hold = hold })
		answered := make(chan struct{})
		if err := l.Propose(Proposal{Command: acquire("x"), Done: func(*command.Result, error) { close(answered) }}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait() // raft is at it
		err := patientProbe(m.node)
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "main loop") {
			t.Errorf("Probe: %v", err)
		}
		m.disk.set(func() { m.disk.hold = nil })
		close(hold)
		<-answered
		if err := patientProbe(m.node); err != nil {
			t.Errorf("the disk goes on: %v", err)
		}
	})
}

// A mutex holds virtual time back, so this waits for nothing but a context that
// is over.
func TestProbeOfAHangingApply(t *testing.T) {
	n := &Node{machine: &machine{state: fsm.New()}}
	began, goOn, applied := make(chan struct{}), make(chan struct{}), make(chan struct{})
	go n.machine.inspect(func(*fsm.State) {
		close(began)
		<-goOn
		close(applied)
	})
	<-began
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if err := n.probeMachine(over); !errors.Is(err, context.Canceled) {
		t.Errorf("while the state is in use: %v", err)
	}
	close(goOn)
	<-applied
	if err := n.probeMachine(t.Context()); err != nil {
		t.Errorf("after that: %v", err)
	}
	n.tasks.Wait()
}

// hangingLeader does not come back from the end of a leadership.
type hangingLeader struct {
	Leader
	goOn chan struct{}
}

func (h hangingLeader) Deposed(l *Leadership) {
	<-h.goOn
	h.Leader.Deposed(l)
}

func TestProbeOfAHangingProposer(t *testing.T) {
	bubble(t, func(t *testing.T) {
		goOn := make(chan struct{})
		c := newCluster(t, 3, 0, func(cfg *Config) { cfg.Leader = hangingLeader{cfg.Leader, goOn} })
		defer c.close()
		leader, _ := c.leader()
		c.net.cut(leader.addr, c.addrs(leader)...)
		time.Sleep(2 * time.Second)
		err := patientProbe(leader.node)
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "proposer") {
			t.Errorf("Probe: %v", err)
		}
		close(goOn)
		if err := patientProbe(leader.node); err != nil {
			t.Errorf("the proposer goes on: %v", err)
		}
	})
}

func TestProbeAfterClose(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newCluster(t, 1, 0, nil)
		c.leader()
		c.close()
		if err := patientProbe(c.members[0].node); !errors.Is(err, ErrClosed) {
			t.Errorf("Probe: %v", err)
		}
	})
}
