package consensus

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/raftlock/raftlock/fsm"
	"github.com/raftlock/raftlock/fsm/command"
)

func TestLeadsCommitsAndReads(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newCluster(t, 5, 1, nil)
		defer c.close()
		m, l := c.leader()
		if a := propose(t, l, acquire("a")); a.err != nil || a.result.GetCode() != command.Code_CODE_OK {
			t.Fatalf("propose: %v, %v", a.result, a.err)
		}
		if err := l.Confirm(t.Context()); err != nil {
			t.Fatalf("confirm: %v", err)
		}
		if _, err := m.node.Read(t.Context()); err != nil {
			t.Fatalf("read: %v", err)
		}
		for _, f := range c.followers(m) {
			if _, err := f.node.Read(t.Context()); !errors.Is(err, ErrNotLeading) {
				t.Errorf("%s reads as a leader: %v", f.id, err)
			}
			until(t, "follower knows the leader", func() bool { id, _ := f.node.LeaderAddr(); return id == m.id })
		}
		until(t, "all applied", func() bool {
			for _, f := range c.members {
				if f.node.AppliedIndex() != m.node.AppliedIndex() {
					return false
				}
			}
			return true
		})
		if !m.node.HasState() || m.node.Bootstrap(nil) == nil {
			t.Error("a cluster can be bootstrapped twice")
		}
	})
}

func TestGroupCommit(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newCluster(t, 3, 0, nil)
		defer c.close()
		m, l := c.leader()
		before := m.node.LastIndex()
		const count = 2000
		var mu sync.Mutex
		var order []int
		for i := range count {
			err := l.Propose(Proposal{Command: acquire(fmt.Sprint(i)), Done: func(_ *command.Result, err error) {
				if err != nil {
					t.Errorf("proposal %d: %v", i, err)
				}
				mu.Lock()
				defer mu.Unlock()
				order = append(order, i)
			}})
			if err != nil {
				t.Fatalf("propose %d: %v", i, err)
			}
		}
		until(t, "all answered", func() bool { mu.Lock(); defer mu.Unlock(); return len(order) == count })
		for i, got := range order {
			if got != i {
				t.Fatalf("answer %d is for proposal %d", i, got)
			}
		}
		if entries := m.node.LastIndex() - before; entries > 6 {
			t.Errorf("%d proposals took %d entries", count, entries)
		}
	})
}

// TestEntryBounds looks at rounds cut by bytes and at what is refused.
func TestEntryBounds(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newCluster(t, 1, 0, func(cfg *Config) { cfg.QueueMax, cfg.QueueBytesMax = 10, 1<<20 })
		defer c.close()
		m, l := c.leader()
		blob := func(n int) *command.Command {
			return &command.Command{Session: make([]byte, n), Kind: &command.Command_Acknowledge{Acknowledge: &command.Acknowledge{}}}
		}
		if err := l.Propose(Proposal{Command: blob(entryBytesMax), Done: func(*command.Result, error) {}}); !errors.Is(err, ErrTooLarge) {
			t.Errorf("too large: %v", err)
		}
		hold := make(chan struct{})
		m.disk.set(func() { m.disk.hold = hold })
		var answers sync.WaitGroup
		done := func(*command.Result, error) { answers.Done() }
		add := func(vital bool, n int) error {
			answers.Add(1)
			err := l.Propose(Proposal{Command: blob(n), Vital: vital, Done: done})
			if err != nil {
				answers.Done()
			}
			return err
		}
		if err := add(false, 1); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond) // its round is under way
		tests := []struct {
			name   string
			vital  bool
			bytes  int
			places int
		}{
			{"ordinary by count", false, 1, 10},
			{"vital by bytes", true, 100 << 10, 10},
		}
		for _, tt := range tests {
			for i := range tt.places {
				if err := add(tt.vital, tt.bytes); err != nil {
					t.Errorf("%s: place %d: %v", tt.name, i, err)
				}
			}
			if err := add(tt.vital, tt.bytes); !errors.Is(err, ErrQueueFull) {
				t.Errorf("%s: past the bound: %v", tt.name, err)
			}
		}
		close(hold)
		answers.Wait()
	})
}

func TestAdmitAnswersWithoutEntry(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newCluster(t, 1, 0, nil)
		defer c.close()
		m, l := c.leader()
		session := make([]byte, 16)
		type seen struct{ touched bool }
		var mu sync.Mutex
		var looks []seen
		m.side.mu.Lock()
		m.side.admit = func(cmd *command.Command, _ *fsm.State, touched bool) *command.Result {
			mu.Lock()
			defer mu.Unlock()
			looks = append(looks, seen{touched})
			if cmd.GetReconcile() != nil && !touched {
				return &command.Result{Code: command.Code_CODE_OK, Detail: "admitted"}
			}
			return nil
		}
		m.side.mu.Unlock()
		reconcile := &command.Command{Session: session, Kind: &command.Command_Reconcile{Reconcile: &command.Reconcile{}}}
		ack := &command.Command{Session: session, Kind: &command.Command_Acknowledge{Acknowledge: &command.Acknowledge{}}}

		before := m.node.LastIndex()
		if a := propose(t, l, reconcile); a.result.GetDetail() != "admitted" || m.node.LastIndex() != before {
			t.Errorf("not answered from the state: %v, %d entries", a.result, m.node.LastIndex()-before)
		}
		hold := make(chan struct{})
		m.disk.set(func() { m.disk.hold = hold })
		var answers sync.WaitGroup
		for _, cmd := range []*command.Command{ack, ack, reconcile} {
			answers.Add(1)
			if err := l.Propose(Proposal{Command: cmd, Done: func(*command.Result, error) { answers.Done() }}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Millisecond)
		}
		close(hold)
		answers.Wait()
		want := []seen{{false}, {false}, {false}, {true}} // alone; alone; first and second of one round
		if fmt.Sprint(looks) != fmt.Sprint(want) {
			t.Errorf("touched: %v, want %v", looks, want)
		}
		before = m.node.LastIndex()
		if a := propose(t, l, &command.Command{Session: session}); a.result.GetCode() != command.Code_CODE_UNKNOWN_KIND || m.node.LastIndex() != before {
			t.Errorf("a kind above the version: %v, %d entries", a.result, m.node.LastIndex()-before)
		}
	})
}

// TestEveryProposalIsAnsweredOnce proposes all the time while leaders are cut
// off, handed over and restarted, and then compares the answers with the log.
func TestEveryProposalIsAnsweredOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newCluster(t, 5, 0, nil)
		defer c.close()
		c.leader()
		var mu sync.Mutex
		answers := make(map[string][]error)
		refused := make(map[string]bool)
		stop := make(chan struct{})
		var load sync.WaitGroup
		for w := range 4 {
			load.Go(func() {
				for i := 0; ; i++ {
					select {
					case <-stop:
						return
					case <-time.After(time.Duration(20+rand.IntN(40)) * time.Millisecond):
					}
					for _, m := range c.members {
						l := m.side.leadership()
						if l == nil {
							continue
						}
						name := fmt.Sprintf("%d-%d-%s", w, i, m.id)
						err := l.Propose(Proposal{Command: acquire(name), Done: func(_ *command.Result, err error) {
							mu.Lock()
							defer mu.Unlock()
							answers[name] = append(answers[name], err)
						}})
						if err != nil {
							mu.Lock()
							refused[name] = true
							mu.Unlock()
						}
					}
				}
			})
		}
		for round := range 12 {
			time.Sleep(time.Second)
			m, _ := c.leader()
			switch round % 3 {
			case 0:
				c.net.cut(m.addr, c.addrs(m)...)
				time.Sleep(4 * time.Second)
				c.net.heal()
			case 1:
				_ = m.node.Transfer(t.Context(), "", "")
			case 2:
				if err := m.node.Close(); err != nil {
					t.Fatal(err)
				}
				time.Sleep(3 * time.Second)
				c.open(m)
			}
		}
		close(stop)
		load.Wait()
		time.Sleep(20 * time.Second)
		m, l := c.leader()
		if a := propose(t, l, acquire("last")); a.err != nil {
			t.Fatal(a.err)
		}
		applied := appliedNames(t, m)
		mu.Lock()
		defer mu.Unlock()
		var ok, not, unknown int
		for name, errs := range answers {
			if len(errs) != 1 {
				t.Fatalf("%s answered %d times: %v", name, len(errs), errs)
			}
			switch {
			case errs[0] == nil:
				ok++
				if applied[name] != 1 {
					t.Errorf("%s was answered and is applied %d times", name, applied[name])
				}
			case errors.Is(errs[0], ErrNotLeading):
				not++
				if applied[name] != 0 {
					t.Errorf("%s was answered %v and is applied", name, errs[0])
				}
			case errors.Is(errs[0], ErrUnknown):
				unknown++
			default:
				t.Errorf("%s: %v", name, errs[0])
			}
		}
		for name := range applied {
			if len(answers[name]) == 0 && name != "last" {
				t.Errorf("%s is applied and was not answered", name)
			}
			if refused[name] {
				t.Errorf("%s was refused and is applied", name)
			}
		}
		if ok == 0 || unknown == 0 {
			t.Errorf("the test shows nothing: %d applied, %d not, %d unknown", ok, not, unknown)
		}
	})
}

// TestLeadershipWaitsForItsEstablish: nothing is proposed in a leadership's name
// before its first command is applied, and the entry carries its term.
func TestEstablishNamesTheLeadership(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newCluster(t, 3, 0, nil)
		defer c.close()
		m, l := c.leader()
		c.net.cut(m.addr, c.addrs(m)...)
		_, l2 := c.leader(m)
		if l2.Term() <= l.Term() {
			t.Fatalf("terms do not rise: %d, %d", l.Term(), l2.Term())
		}
		// A late copy: what the first leadership's goroutine would still put
		// into a later one of the same node.
		c.net.heal()
		until(t, "the old leader follows", func() bool { return m.node.State() == raft.Follower && m.side.leadership() == nil })
		m2, l2 := c.leader()
		out, err := m2.node.apply(newLeadership(m2.node, l.Term()), []*command.Command{acquire("late")})
		if !errors.Is(err, ErrNotLeading) {
			t.Errorf("an entry of another term: %v, %v", out, err)
		}
		if n := appliedNames(t, m2)["late"]; n != 0 {
			t.Error("an entry of an earlier leadership was applied in a later one")
		}
		if a := propose(t, l2, acquire("now")); a.err != nil {
			t.Errorf("the leadership did not survive: %v", a.err)
		}
	})
}

func TestTransferKeepsProposals(t *testing.T) {
	tests := []struct {
		name string
		cut  bool // the target cannot be reached: the transfer fails
	}{
		{"hands over", false},
		{"fails", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				c := newCluster(t, 3, 0, nil)
				defer c.close()
				m, l := c.leader()
				to := c.followers(m)[0]
				if tt.cut {
					c.net.cut(to.addr, c.addrs(to)...)
				}
				result := make(chan error, 1)
				go func() { result <- m.node.Transfer(t.Context(), to.id, string(to.addr)) }()
				time.Sleep(time.Millisecond)
				a := propose(t, l, acquire("meanwhile"))
				err := <-result
				if tt.cut {
					if err == nil || a.err != nil {
						t.Fatalf("transfer %v, proposal %v", err, a.err)
					}
					return
				}
				if err != nil {
					t.Fatalf("transfer: %v", err)
				}
				if a.err != nil && !errors.Is(a.err, ErrNotLeading) && !errors.Is(a.err, ErrUnknown) {
					t.Fatalf("proposal: %v", a.err)
				}
				if next, _ := c.leader(m); next != to {
					t.Errorf("%s leads, not %s", next.id, to.id)
				}
			})
		})
	}
}

// TestTransferToAHungServer: raft refuses entries until its message to the
// target has returned, and that must not take as long as the network likes.
func TestTransferToAHungServer(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newCluster(t, 3, 0, nil)
		defer c.close()
		m, l := c.leader()
		to := c.followers(m)[0]
		c.net.set(func() {
			c.net.timeout = time.Minute
			c.net.allow = func(_, _ raft.ServerAddress, q any) bool {
				_, ok := q.(*raft.TimeoutNowRequest)
				return !ok
			}
		})
		result := make(chan error, 1)
		go func() { result <- m.node.Transfer(t.Context(), to.id, string(to.addr)) }()
		time.Sleep(100 * time.Millisecond)
		if a := propose(t, l, acquire("meanwhile")); a.err != nil {
			t.Errorf("proposal: %v", a.err)
		}
		if err := <-result; err == nil {
			t.Error("the transfer worked")
		}
	})
}

// TestTransferThatNeverEnds arranges hashicorp/raft#696: a second transfer to a
// server whose replication hangs waits where nothing can stop it, and meanwhile
// the leader refuses every entry.
func TestTransferThatNeverEnds(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newCluster(t, 3, 0, nil)
		m, l := c.leader()
		to := c.followers(m)[0]
		c.net.set(func() {
			c.net.timeout = 10 * time.Minute
			c.net.allow = func(_, addr raft.ServerAddress, q any) bool {
				_, ok := q.(*raft.AppendEntriesRequest)
				return !ok || addr != to.addr || isHeartbeat(q)
			}
		})
		if a := propose(t, l, acquire("before")); a.err != nil {
			t.Fatal(a.err)
		}
		for range 2 {
			if err := m.node.Transfer(t.Context(), to.id, string(to.addr)); err == nil {
				t.Error("the transfer worked")
			}
			time.Sleep(100 * time.Millisecond) // raft clears its flag after it answered
		}
		if a := propose(t, l, acquire("refused")); !errors.Is(a.err, ErrNotLeading) {
			t.Errorf("proposal: %v", a.err)
		}
		select {
		case err := <-m.fatal:
			if !errors.Is(err, ErrTransferStuck) {
				t.Errorf("fatal: %v", err)
			}
		default:
			t.Error("the node goes on")
		}
		// The hung messages end, and with them what waits in the library.
		c.net.set(func() { c.net.allow, c.net.timeout = nil, time.Second })
		time.Sleep(11 * time.Minute)
		c.close()
	})
}

func TestSnapshotAndRestore(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newCluster(t, 3, 0, func(cfg *Config) {
			cfg.SnapshotInterval, cfg.SnapshotThreshold, cfg.TrailingLogs = 5*time.Second, 20, 5
		})
		defer c.close()
		m, l := c.leader()
		for i := range 100 {
			if a := propose(t, l, acquire(fmt.Sprint(i))); a.err != nil {
				t.Fatal(a.err)
			}
		}
		time.Sleep(30 * time.Second)
		if list, err := m.snapshots.List(); err != nil || len(list) == 0 {
			t.Fatalf("no snapshot was taken: %v", err)
		}
		// A new server gets it over the network, a restarted one from its disk.
		s := c.add("s9")
		if err := m.node.AddNonvoter(t.Context(), s.id, string(s.addr)); err != nil {
			t.Fatal(err)
		}
		f := c.followers(m)[0]
		if err := f.node.Close(); err != nil {
			t.Fatal(err)
		}
		c.open(f)
		if a := propose(t, l, acquire("after")); a.err != nil {
			t.Fatal(a.err)
		}
		hash := func(m *member) (h uint64) {
			m.node.Inspect(func(s *fsm.State) { h = s.Hash() })
			return h
		}
		until(t, "all equal", func() bool {
			for _, x := range c.members {
				if hash(x) != hash(m) {
					return false
				}
			}
			return true
		})
		if first, _ := s.disk.FirstIndex(); first <= 1 {
			t.Error("the new server was given the whole log")
		}
		if err := m.node.AddVoter(t.Context(), s.id, string(s.addr)); err != nil {
			t.Fatal(err)
		}
		if err := m.node.Remove(t.Context(), f.id); err != nil {
			t.Fatal(err)
		}
		servers, _ := m.node.Servers()
		voters := 0
		for _, x := range servers {
			if x.ID == f.id || !x.Voter {
				t.Errorf("configuration: %v", servers)
			}
			voters++
		}
		if voters != 3 {
			t.Errorf("configuration: %v", servers)
		}
		if err := f.node.AddVoter(t.Context(), "x", "x:1"); !errors.Is(err, ErrNotLeading) {
			t.Errorf("a follower changes members: %v", err)
		}
	})
}

// TestStalledDiskOfTheLibrary is hashicorp/raft#503: a leader whose disk stands
// still goes on with its heartbeats for ever, and nothing is committed. When this
// fails, the library was mended, and ApplyBound may be looked at again.
func TestStalledDiskOfTheLibrary(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newBare(t, func(l *pipeListener) raft.Transport {
			o := DefaultTransportOptions()
			o.Log = testLog()
			return slowPath{preVoting: NewTransport(l, o)}
		}, nil)
		defer c.close()
		lead, hold := c.lead(-1), make(chan struct{})
		c.disks[lead].set(func() { c.disks[lead].hold = hold })
		stuck := c.nodes[lead].Apply([]byte("x"), 0)
		answered := make(chan error, 1)
		go func() { answered <- stuck.Error() }()
		time.Sleep(2 * time.Minute)
		select {
		case err := <-answered:
			t.Errorf("answered: %v", err)
		default:
		}
		for i, n := range c.nodes {
			if _, id := n.LeaderWithID(); id != raft.ServerID(fmt.Sprint(lead)) {
				t.Errorf("server %d follows %q two minutes after the leader's disk stood still", i, id)
			}
		}
		close(hold)
		<-answered
	})
}

// TestStalledDisk: ours answers, and stops.
func TestStalledDisk(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newCluster(t, 3, 0, nil)
		m, l := c.leader()
		hold := make(chan struct{})
		m.disk.set(func() { m.disk.hold = hold })
		start := time.Now()
		queued := make(chan answer, 1)
		go func() {
			time.Sleep(time.Second)
			queued <- propose(t, l, acquire("behind"))
		}()
		a := propose(t, l, acquire("stuck"))
		if !errors.Is(a.err, ErrUnknown) {
			t.Errorf("in flight: %v", a.err)
		}
		if b := <-queued; !errors.Is(b.err, ErrNotLeading) {
			t.Errorf("behind it: %v", b.err)
		}
		if took := time.Since(start); took > m.node.cfg.ApplyBound+time.Second {
			t.Errorf("answered after %v", took)
		}
		if err := <-m.fatal; !errors.Is(err, ErrStalled) {
			t.Errorf("fatal: %v", err)
		}
		if m.side.leadership() != nil {
			t.Error("not deposed")
		}
		close(hold)
		c.close()
	})
}

// TestLeadershipThatEndsAsItIsHandedOver: nothing is committed in time, handing
// over fails, and the leadership ends all the same, a moment later. The node does
// not stop for it.
func TestLeadershipThatEndsAsItIsHandedOver(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newCluster(t, 3, 0, nil)
		defer c.close()
		m, l := c.leader()
		c.net.set(func() {
			c.net.allow = func(from, _ raft.ServerAddress, q any) bool {
				_, data := q.(*raft.AppendEntriesRequest)
				return from != m.addr || !data || isHeartbeat(q)
			}
		})
		// Handing over is given up an election's time after the bound; just before
		// that the leader is cut off, which it notices a lease's time later.
		go func() {
			time.Sleep(m.node.cfg.ApplyBound + m.node.cfg.ElectionTimeout - 50*time.Millisecond)
			c.net.cut(m.addr, c.addrs(m)...)
		}()
		if a := propose(t, l, acquire("stuck")); !errors.Is(a.err, ErrUnknown) {
			t.Errorf("in flight: %v", a.err)
		}
		time.Sleep(10 * time.Second)
		select {
		case err := <-m.fatal:
			t.Errorf("it stops: %v", err)
		default:
		}
		c.net.set(func() { c.net.allow = nil })
		c.net.heal()
	})
}

// TestCloseWithHungFutures closes a leader that has no quorum and a disk that
// stands still.
func TestCloseIsBounded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newCluster(t, 3, 0, nil)
		m, l := c.leader()
		c.net.cut(m.addr, c.addrs(m)...)
		hold := make(chan struct{})
		m.disk.set(func() { m.disk.hold = hold })
		got := make(chan answer, 1)
		go func() { got <- propose(t, l, acquire("stuck")) }()
		time.Sleep(10 * time.Millisecond)
		start := time.Now()
		err := m.node.Close()
		if !errors.Is(err, ErrCloseBound) || time.Since(start) > m.node.cfg.CloseBound {
			t.Errorf("close: %v after %v", err, time.Since(start))
		}
		if a := <-got; !errors.Is(a.err, ErrUnknown) {
			t.Errorf("in flight: %v", a.err)
		}
		if len(m.side.deposed) != 1 {
			t.Errorf("deposed %d times", len(m.side.deposed))
		}
		if err := l.Propose(Proposal{Command: acquire("x")}); !errors.Is(err, ErrNotLeading) {
			t.Errorf("propose after close: %v", err)
		}
		if err := l.Confirm(context.Background()); !errors.Is(err, ErrNotLeading) {
			t.Errorf("confirm after close: %v", err)
		}
		if err := m.node.AddVoter(t.Context(), "x", "x:1"); !errors.Is(err, ErrClosed) {
			t.Errorf("change after close: %v", err)
		}
		if err := m.node.Close(); !errors.Is(err, ErrCloseBound) {
			t.Errorf("second close: %v", err)
		}
		close(hold)
		time.Sleep(time.Second)
		for _, f := range c.followers(m) {
			if err := f.node.Close(); err != nil {
				t.Error(err)
			}
		}
	})
}

// TestNotifyStorm: leaderships come and go faster than the leader's side can be
// told. Raft must not wait for it, each that was begun ends, terms rise, and in
// the end the one that lasts is served.
func TestNotifyStorm(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newCluster(t, 3, 0, nil)
		defer c.close()
		for _, m := range c.members {
			m.side.mu.Lock()
			m.side.ousted = func(*Leadership) { time.Sleep(700 * time.Millisecond) }
			m.side.mu.Unlock()
		}
		for range 60 {
			for _, m := range c.members {
				if m.node.State() == raft.Leader {
					to := c.followers(m)[rand.IntN(2)]
					_ = m.node.Transfer(t.Context(), to.id, string(to.addr))
				}
			}
			time.Sleep(time.Duration(rand.IntN(60)) * time.Millisecond)
		}
		time.Sleep(5 * time.Second)
		m, l := c.leader()
		if a := propose(t, l, acquire("calm")); a.err != nil {
			t.Fatal(a.err)
		}
		if m.node.Term() != l.Term() {
			t.Errorf("serves term %d in term %d", l.Term(), m.node.Term())
		}
		for _, m := range c.members {
			m.side.mu.Lock()
			for i, term := range m.side.terms {
				if i > 0 && term <= m.side.terms[i-1] {
					t.Errorf("%s: terms %v", m.id, m.side.terms)
				}
				if i < len(m.side.deposed) && m.side.deposed[i] != term {
					t.Errorf("%s: established %v, deposed %v", m.id, m.side.terms, m.side.deposed)
				}
			}
			m.side.mu.Unlock()
		}
	})
}

// TestLostAndRegainedUnseen: the value of the notification is the same before
// and after, only the term tells.
func TestLostAndRegainedUnseen(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newCluster(t, 3, 0, nil)
		defer c.close()
		m, l := c.leader()
		m.side.mu.Lock()
		m.side.admit = func(*command.Command, *fsm.State, bool) *command.Result {
			return &command.Result{Code: command.Code_CODE_OK}
		}
		m.side.mu.Unlock()
		blocked, free := make(chan struct{}), make(chan struct{})
		if err := l.Propose(Proposal{Command: acquire("block"), Done: func(*command.Result, error) {
			close(blocked)
			<-free // what no Done may do: lead stands still
		}}); err != nil {
			t.Fatal(err)
		}
		<-blocked
		to := c.followers(m)[0]
		if err := m.node.Transfer(t.Context(), to.id, string(to.addr)); err != nil {
			t.Fatal(err)
		}
		until(t, "the other leads", func() bool { return to.side.leadership() != nil })
		if err := to.node.Transfer(t.Context(), m.id, string(m.addr)); err != nil {
			t.Fatal(err)
		}
		until(t, "raft leads again", func() bool { return m.node.State() == raft.Leader && m.node.Term() > l.Term() })
		close(free)
		until(t, "a new leadership", func() bool { now := m.side.leadership(); return now != nil && now.Term() > l.Term() })
		if err := l.Confirm(t.Context()); !errors.Is(err, ErrNotLeading) {
			t.Errorf("the old leadership is confirmed: %v", err)
		}
	})
}

func TestWrongClusterStops(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newCluster(t, 1, 0, nil)
		m, _ := c.leader()
		if err := m.node.Close(); err != nil {
			t.Fatal(err)
		}
		c.tune = func(cfg *Config) { cfg.ClusterID = "c2" }
		c.open(m)
		if err := <-m.fatal; !errors.Is(err, ErrWrongCluster) {
			t.Errorf("fatal: %v", err)
		}
		time.Sleep(5 * time.Second)
		if m.side.leadership() != nil {
			t.Error("it leads another cluster")
		}
		c.close()
	})
}
