package sim

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	api "github.com/raftlock/raftlock/api/raftlock/v1"
	"github.com/raftlock/raftlock/consensus"
	"github.com/raftlock/raftlock/fsm/command"
	"github.com/raftlock/raftlock/link/linkpb"
	raftlock "github.com/raftlock/raftlock/sdk/go"
)

// The lock of a process that dies is its waiter's in milliseconds.
func TestStoryHandOff(t *testing.T) {
	story(t, func(c *Cluster) {
		a := c.open(c.Forwarders[0], "a", 10*time.Second)
		b := c.open(c.Forwarders[1], "b", 10*time.Second)
		h := c.lock(a, "x")
		got := c.queue(context.Background(), b, "x")
		time.Sleep(time.Minute)
		if !h.Valid() {
			c.Fatal("not held after a minute of renewals")
		}
		killed := time.Now()
		a.Kill()
		h2 := c.take(got, time.Second)
		if h2.Token <= h.Token {
			c.Fatal("token %d after %d", h2.Token, h.Token)
		}
		t.Logf("granted %v after the kill", time.Since(killed))
		c.Settled(time.Minute)
	})
}

// A grant is applied while its frame is lost: the link breaks with the notice
// in it, and what the next link reconciles delivers it.
func TestStoryGrantLost(t *testing.T) {
	story(t, func(c *Cluster) {
		a := c.open(c.Forwarders[0], "a", 30*time.Second)
		b := c.open(c.Forwarders[1], "b", 30*time.Second)
		h := c.lock(a, "x")
		got := c.queue(context.Background(), b, "x")
		lost := 0
		c.W.OnFrame(func(f *Frame) Action {
			if f.Kind == "link-down/notice/standing" && f.To == "f2" && lost == 0 {
				lost++
				return Cut
			}
			return Deliver
		})
		c.must("unlock", h.Unlock(context.Background()))
		c.take(got, 5*time.Second)
		if lost != 1 {
			c.Fatal("the grant's frame was not lost")
		}
		c.Settled(time.Minute)
	})
}

// Two goroutines on one lock in one session contend like strangers.
func TestStoryNoReentry(t *testing.T) {
	story(t, func(c *Cluster) {
		a := c.open(c.Forwarders[0], "a", 10*time.Second)
		h := c.lock(a, "x")
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		defer cancel()
		if _, err := a.Lock(ctx, "x"); !errors.Is(err, context.DeadlineExceeded) {
			c.Fatal("the second goroutine got %v beside the first", err)
		}
		if _, err := a.TryLock(context.Background(), "x"); !errors.Is(err, raftlock.ErrHeld) {
			c.Fatal("try said %v", err)
		}
		got := c.queue(context.Background(), a, "x")
		c.must("unlock", h.Unlock(context.Background()))
		if h2 := c.take(got, time.Second); h2.Token <= h.Token || h.Valid() {
			c.Fatal("token %d after %d, first valid: %v", h2.Token, h.Token, h.Valid())
		}
		c.Settled(time.Minute)
	})
}

// A cancel overtakes its acquire: the sequence is used up, and the acquire that
// comes later takes nothing.
func TestStoryCancelOvertakes(t *testing.T) {
	story(t, func(c *Cluster) {
		r := c.StartRaw(c.Forwarders[0], "raw")
		r.SendOpen(1, 10*time.Second)
		_, err := r.Await(5*time.Second, Attached(1))
		c.must("open", err)
		r.KeepBeating(time.Second)
		r.SendCancel(5)
		_, err = r.Await(5*time.Second, Stands(5, api.Standing_STATE_GONE))
		c.must("cancel", err)
		r.SendAcquire(5, "x")
		time.Sleep(2 * time.Second)
		if _, held := c.info("x"); held {
			c.Fatal("an acquire that was cancelled before it came took the lock")
		}
	})
}

// One wait of an hour with 2,000 other requests in its session: the wait keeps
// its place, and holds back no acknowledgement. One voter and long TTLs, since
// it is the hour and the requests that count.
func TestStoryLongWait(t *testing.T) {
	story(t, func(c *Cluster) {
		const ttl = 3 * time.Minute
		a := c.open(c.Voters[0], "a", ttl)
		b := c.open(c.Forwarders[0], "b", ttl)
		h := c.lock(a, "x")
		got := c.queue(context.Background(), b, "x")
		for range 1000 {
			time.Sleep(3600 * time.Millisecond)
			other, err := b.TryLock(context.Background(), "y")
			c.must("another request", err)
			c.must("its unlock", other.Unlock(context.Background()))
		}
		if !h.Valid() {
			c.Fatal("not held after an hour")
		}
		a.Kill()
		c.take(got, time.Second)
		c.Settled(time.Minute)
	}, func(cfg *ClusterConfig) {
		cfg.Voters, cfg.Forwarders = 1, 1
	})
}

// A full proposal queue with 1,000 sessions renewing: none is lost, because
// nothing waits for the queue that a heartbeat needs.
func TestStoryFullQueue(t *testing.T) {
	const sessions, ttl = 1000, 3 * time.Second
	story(t, func(c *Cluster) {
		agent := c.StartRawAgent("many")
		defer agent.Close()
		c.must("link", agent.Link(c.Leader()))
		c.openMany(agent, sessions, ttl)
		refused := c.flood(c.Forwarders[1], 12*time.Second, func() { agent.Beat() })
		own := c.refuse(agent, 2*ttl)
		if got := c.sessions(); got < sessions {
			c.Fatal("%d of %d sessions are left", got, sessions)
		}
		if refused == 0 || own == 0 {
			c.Fatal("the queue was not full: %d requests of others refused, %d of its own", refused, own)
		}
		t.Logf("%d requests of others refused for load, %d of its own, %d sessions kept", refused, own, sessions)
	}, func(cfg *ClusterConfig) {
		cfg.CheckEvery = 200
		cfg.Consensus = func(cfg *consensus.Config) { cfg.QueueMax = 16 }
	})
}

// openMany opens so many sessions on a raw agent, as fast as the queue allows.
func (c *Cluster) openMany(r *RawAgent, n int, ttl time.Duration) {
	open := make(map[int]*command.Command)
	for i := range n {
		open[i] = r.Open(0, 1, ttl)
		open[i].Session = append(make([]byte, 13), 1, byte(i>>8), byte(i))
	}
	for len(open) > 0 {
		ids := make(map[uint64]int)
		for i, c := range open {
			ids[r.Send(c)[0]] = i
			if len(ids) == 16 {
				break
			}
		}
		r.Beat()
		for id, i := range ids {
			if a, err := r.Answer(id, 5*time.Second); err != nil {
				c.Fatal("open: %v", err)
			} else if code := a.GetResult().GetCode(); code == command.Code_CODE_OK {
				delete(open, i)
			} else if a.Outcome == linkpb.Proposed_OUTCOME_APPLIED {
				c.Fatal("open: %v: %s", code, a.Result.Detail)
			}
		}
	}
}

// refuse stalls the leader's disk and asks for more than its queue takes, on the
// link that the agent's heartbeats use. It returns how many were refused.
func (c *Cluster) refuse(r *RawAgent, long time.Duration) (refused int) {
	c.Leader().Host.Disk.Stall(long * 2 / 3)
	var ids []uint64
	for end := c.W.Now() + long; c.W.Now() < end; time.Sleep(250 * time.Millisecond) {
		for range 20 {
			ids = append(ids, r.Send(AcquireFor(1, 1, 1, "hot"))...)
		}
		r.Beat()
	}
	for _, id := range ids {
		if p, err := r.Answer(id, time.Second); err == nil && p.Outcome == linkpb.Proposed_OUTCOME_QUEUE_FULL {
			refused++
		}
	}
	return refused
}

// flood acquires from many goroutines of one process, calling beat four times a
// second, and returns how many requests were refused for load.
func (c *Cluster) flood(m *Member, long time.Duration, beat func()) int {
	a := c.open(m, "flood", 20*time.Second)
	ctx, cancel := context.WithTimeout(context.Background(), long)
	defer cancel()
	var mu sync.Mutex
	refused := 0
	var workers sync.WaitGroup
	for range 60 {
		workers.Go(func() {
			for ctx.Err() == nil {
				h, err := a.TryLock(ctx, "hot")
				if errors.Is(err, raftlock.ErrQueueFull) {
					mu.Lock()
					refused++
					mu.Unlock()
				}
				if err == nil {
					_ = h.Unlock(ctx)
				}
				time.Sleep(100 * time.Millisecond)
			}
		})
	}
	for ctx.Err() == nil {
		beat()
		time.Sleep(250 * time.Millisecond)
	}
	workers.Wait()
	return refused
}
