package consensus

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/raftlock/raftlock/fsm/command"
)

// ask replaces how voters are asked.
func (c *cluster) onAsk(f func(ctx context.Context, from, to ServerID, addr string) (uint64, error)) {
	c.set(func() { c.asked = f })
}

// TestConfirmCountsVotersOnly shows a bug of the library that must not reach
// us: VerifyLeader counts the answers of non-voters.
func TestConfirmCountsVotersOnly(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newCluster(t, 5, 3, func(cfg *Config) { cfg.ConfirmTimeout = 200 * time.Millisecond })
		defer c.close()
		m, l := c.leader()
		var voters []raft.ServerAddress
		for _, v := range c.members[:5] {
			if v != m {
				voters = append(voters, v.addr)
			}
		}
		time.Sleep(5 * time.Second) // standbys are served
		c.net.cut(m.addr, voters...)
		time.Sleep(10 * time.Millisecond) // answers under way are there
		if err := m.node.raft.VerifyLeader().Error(); err != nil {
			t.Errorf("the library has learnt not to count non-voters: %v", err)
		}
		if err := l.Confirm(t.Context()); !errors.Is(err, ErrNoQuorum) {
			t.Errorf("confirmed by standbys: %v", err)
		}
	})
}

// TestConfirmCountsNewAnswersOnly shows another: VerifyLeader counts answers to
// messages sent before it was asked, so it says yes on a leader whose successor
// has committed.
func TestConfirmCountsNewAnswersOnly(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newCluster(t, 3, 0, nil)
		defer c.close()
		m, l := c.leader()
		if err := l.Confirm(t.Context()); err != nil {
			t.Fatal(err)
		}
		a, b := c.followers(m)[0], c.followers(m)[1]
		disk := make(chan struct{})
		replies := map[raft.ServerAddress]chan struct{}{a.addr: make(chan struct{}), b.addr: make(chan struct{})}

		// The leader's log write stands still, and what its followers answer
		// is held back.
		c.net.set(func() {
			c.net.reply = func(from, to raft.ServerAddress, _ any) {
				if from == m.addr {
					<-replies[to]
				}
			}
		})
		m.disk.set(func() { m.disk.hold = disk })
		stuck := make(chan answer, 1)
		go func() { stuck <- propose(t, l, acquire("stuck")) }()
		time.Sleep(200 * time.Millisecond)
		// Messages to and from it are lost, but for those answers.
		c.net.set(func() {
			c.net.allow = func(from, to raft.ServerAddress, request any) bool {
				return request == nil || from != m.addr && to != m.addr
			}
		})
		next, l2 := c.leader(m)
		if got := propose(t, l2, acquire("newer")); got.err != nil {
			t.Fatal(got.err)
		}

		// From here on both are asked, and then the stall ends. The first answer
		// keeps the library's leader lease, the second is counted.
		verified := make(chan error, 1)
		go func() { verified <- m.node.raft.VerifyLeader().Error() }()
		confirmed := make(chan error, 1)
		c.onAsk(func(_ context.Context, _, to ServerID, _ string) (uint64, error) {
			n, _ := c.nodeOf(to)
			return n.Term(), nil
		})
		go func() { confirmed <- l.Confirm(t.Context()) }()
		time.Sleep(10 * time.Millisecond)
		close(replies[a.addr])
		time.Sleep(10 * time.Millisecond)
		m.disk.set(func() { m.disk.hold = nil })
		close(disk)
		time.Sleep(time.Millisecond)
		close(replies[b.addr])
		if err := <-verified; err != nil {
			t.Errorf("the library has learnt not to count old answers: %v", err)
		}
		if err := <-confirmed; err == nil {
			t.Errorf("confirmed %s in term %d while %s leads in term %d", m.id, l.Term(), next.id, l2.Term())
		}
		c.net.set(func() { c.net.allow, c.net.reply = nil, nil })
		if got := <-stuck; !errors.Is(got.err, ErrUnknown) {
			t.Errorf("in flight: %v", got.err)
		}
	})
}

func TestConfirmCounts(t *testing.T) {
	failed := errors.New("another server has this address")
	yes := func(context.Context, uint64) (uint64, error) { return 0, nil } // 0: the right term
	tests := []struct {
		name   string
		voters int
		says   []func(ctx context.Context, term uint64) (uint64, error)
		want   error
	}{
		{"alone", 1, nil, nil},
		{"all", 3, says(yes, yes), nil},
		{"one of two others hangs", 3, says(yes, hangs), nil},
		{"both hang", 3, says(hangs, hangs), ErrNoQuorum},
		{"the address belongs to another server", 3, says(fails(failed), fails(failed)), ErrNoQuorum},
		{"a later term", 3, says(offset(1), offset(1)), ErrNoQuorum},
		{"an earlier term", 3, says(offset(-1), hangs), ErrNoQuorum},
		{"two of four", 5, says(yes, hangs, yes, fails(failed)), nil},
		{"one of four", 5, says(yes, hangs, offset(1), fails(failed)), ErrNoQuorum},
		{"half of an even number", 4, says(yes, hangs, hangs), ErrNoQuorum},
		{"answers at the second time", 3, says(firstFails(), hangs), nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				c := newCluster(t, tt.voters, 0, nil)
				defer c.close()
				m, l := c.leader()
				who := make(map[ServerID]func(context.Context, uint64) (uint64, error))
				for i, f := range c.followers(m) {
					who[f.id] = tt.says[i]
				}
				c.onAsk(func(ctx context.Context, _, to ServerID, _ string) (uint64, error) {
					term, err := who[to](ctx, l.Term())
					if term == 0 {
						term = l.Term()
					}
					return term, err
				})
				start := time.Now()
				err := l.Confirm(t.Context())
				if !errors.Is(err, tt.want) {
					t.Errorf("confirm: %v, want %v", err, tt.want)
				}
				if took := time.Since(start); tt.want != nil && took != m.node.cfg.ConfirmTimeout {
					t.Errorf("took %v", took)
				}
			})
		})
	}
}

type say = func(ctx context.Context, term uint64) (uint64, error)

func says(f ...say) []say { return f }

func hangs(ctx context.Context, _ uint64) (uint64, error) {
	<-ctx.Done()
	return 0, ctx.Err()
}

func fails(err error) say { return func(context.Context, uint64) (uint64, error) { return 0, err } }

func offset(by int) say {
	return func(_ context.Context, term uint64) (uint64, error) { return uint64(int(term) + by), nil }
}

func firstFails() say {
	var n atomic.Int32
	return func(context.Context, uint64) (uint64, error) {
		if n.Add(1) == 1 {
			return 0, errCut
		}
		return 0, nil
	}
}

// TestConfirmHungVoter: a question that never ends, not even with its context,
// delays nobody and is the only one to that voter.
func TestConfirmHungVoter(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newCluster(t, 3, 0, nil)
		m, l := c.leader()
		hung, other := c.followers(m)[0].id, c.followers(m)[1].id
		release := make(chan struct{})
		var questions, answers atomic.Int32
		c.onAsk(func(_ context.Context, _, to ServerID, _ string) (uint64, error) {
			if to == hung {
				questions.Add(1)
				<-release
				return 0, errCut
			}
			answers.Add(1)
			time.Sleep(time.Millisecond)
			return l.Term(), nil
		})
		for range 100 {
			start := time.Now()
			if err := l.Confirm(t.Context()); err != nil || time.Since(start) > 2*time.Millisecond {
				t.Fatalf("confirm: %v after %v", err, time.Since(start))
			}
		}
		if questions.Load() != 1 || answers.Load() != 100 {
			t.Errorf("%d questions to the one that hangs, %d to %s", questions.Load(), answers.Load(), other)
		}
		close(release)
		c.close()
	})
}

// TestConfirmRoundsAreShared: who asks while a round is under way is served by
// the next, with questions sent after it came.
func TestConfirmRoundsAreShared(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newCluster(t, 3, 0, nil)
		defer c.close()
		_, l := c.leader()
		var mu sync.Mutex
		var rounds []time.Time // of questions, two a round
		c.onAsk(func(context.Context, ServerID, ServerID, string) (uint64, error) {
			mu.Lock()
			rounds = append(rounds, time.Now())
			mu.Unlock()
			time.Sleep(100 * time.Millisecond)
			return l.Term(), nil
		})
		start := time.Now()
		var callers sync.WaitGroup
		for i := range 200 {
			callers.Go(func() {
				time.Sleep(time.Duration(i) * time.Millisecond) // 0 to 199
				came := time.Since(start)
				if err := l.Confirm(t.Context()); err != nil {
					t.Errorf("caller %d: %v", i, err)
				}
				took := time.Since(start) - came
				if took < 100*time.Millisecond || took > 200*time.Millisecond {
					t.Errorf("caller %d waited %v", i, took)
				}
			})
		}
		callers.Wait()
		mu.Lock()
		defer mu.Unlock()
		if len(rounds) != 6 {
			t.Errorf("%d questions, want 3 rounds of 2", len(rounds))
		}
	})
}

func TestConfirmCallerGivesUp(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newCluster(t, 3, 0, nil)
		defer c.close()
		_, l := c.leader()
		c.onAsk(func(ctx context.Context, _, _ ServerID, _ string) (uint64, error) { return hangs(ctx, 0) })
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		if err := l.Confirm(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("confirm: %v", err)
		}
	})
}

// TestConfirmVotersChangeMeanwhile: answers of a list that is no longer the list
// prove nothing; the new one is asked.
func TestConfirmVotersChangeMeanwhile(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newCluster(t, 3, 1, nil)
		defer c.close()
		m, l := c.leader()
		standby := c.members[3]
		var first firstTime
		changed := make(chan struct{})
		var mu sync.Mutex
		asked := make(map[ServerID]int)
		c.onAsk(func(_ context.Context, _, to ServerID, _ string) (uint64, error) {
			mu.Lock()
			asked[to]++
			mu.Unlock()
			if first.is() {
				if err := m.node.AddVoter(t.Context(), standby.id, string(standby.addr)); err != nil {
					t.Error(err)
				}
				close(changed)
			}
			<-changed
			return l.Term(), nil
		})
		if err := l.Confirm(t.Context()); err != nil {
			t.Fatal(err)
		}
		mu.Lock()
		defer mu.Unlock()
		total := 0
		for _, n := range asked {
			total += n
		}
		// One or two of three before the change, two or three of four after it.
		if total < 3 {
			t.Errorf("the new list was not asked: %v", asked)
		}
	})
}

// TestConfirmDeposedBeforeCounting: true answers, but this server has been
// deposed since, and the goroutine that watches it has not seen that.
func TestConfirmDeposedBeforeCounting(t *testing.T) {
	for _, again := range []bool{false, true} {
		t.Run(fmt.Sprintf("leads again %v", again), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				c := newCluster(t, 3, 0, nil)
				defer c.close()
				m, l := c.leader()
				blocked, free := make(chan struct{}), make(chan struct{})
				if err := l.Propose(Proposal{Command: acquire("block"), Done: func(*command.Result, error) {
					close(blocked)
					<-free
				}}); err != nil {
					t.Fatal(err)
				}
				<-blocked
				to := c.followers(m)[0]
				deposing := func(id ServerID) uint64 {
					n, _ := c.nodeOf(id)
					term := n.Term()
					if err := m.node.Transfer(t.Context(), to.id, string(to.addr)); err != nil {
						t.Error(err)
					}
					until(t, "the other leads", func() bool { return to.side.leadership() != nil })
					if !again {
						return term
					}
					if err := to.node.Transfer(t.Context(), m.id, string(m.addr)); err != nil {
						t.Error(err)
					}
					until(t, "raft leads again", func() bool { return m.node.State() == raft.Leader && m.node.Term() > l.Term() })
					return term
				}
				c.onAsk(func(ctx context.Context, _, id ServerID, _ string) (uint64, error) {
					if id != to.id {
						return hangs(ctx, 0)
					}
					return deposing(id), nil
				})
				err := l.Confirm(t.Context())
				close(free)
				if !errors.Is(err, ErrNotLeading) {
					t.Errorf("confirm: %v", err)
				}
			})
		})
	}
}

// firstTime is a sync.Once that nobody waits in: in a bubble, time stands still
// for who waits for a mutex.
type firstTime struct{ done atomic.Bool }

func (f *firstTime) is() bool { return f.done.CompareAndSwap(false, true) }

func TestElectorate(t *testing.T) {
	l := &Leadership{node: &Node{cfg: Config{ServerID: "me"}}}
	v := func(id ServerID) Server { return Server{ID: id, Voter: true} }
	n := func(id ServerID) Server { return Server{ID: id} }
	tests := []struct {
		name    string
		servers []Server
		need    int
		others  int
	}{
		{"five with me", []Server{v("me"), v("b"), v("c"), v("d"), v("e")}, 2, 4},
		{"standbys do not count", []Server{v("me"), v("b"), v("c"), n("d"), n("e")}, 1, 2},
		{"four without me", []Server{v("b"), v("c"), v("d"), v("e")}, 3, 4},
		{"I am a standby", []Server{n("me"), v("b"), v("c"), v("d")}, 2, 3},
		{"I alone", []Server{v("me"), n("b")}, 0, 0},
		{"nobody", nil, 1, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if need, others := l.electorate(tt.servers); need != tt.need || len(others) != tt.others {
				t.Errorf("need %d of %d, want %d of %d", need, len(others), tt.need, tt.others)
			}
		})
	}
}
