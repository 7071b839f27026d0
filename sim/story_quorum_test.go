package sim

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	api "github.com/raftlock/raftlock/api/raftlock/v1"
	"github.com/raftlock/raftlock/link/linkpb"
)

// Nobody has a quorum for longer than the TTL. Every old handle is lost before
// anything newer is said, and afterwards every lock is free or granted anew,
// although the sessions live on.
func TestStoryQuorumGone(t *testing.T) {
	story(t, func(c *Cluster) {
		const ttl = 6 * time.Second
		a := c.open(c.Forwarders[0], "a", ttl)
		b := c.open(c.Forwarders[1], "b", ttl)
		h := c.lock(a, "x")
		raw := c.attach(c.Forwarders[0], "raw", ttl)
		c.acquire(raw, 2, "y")
		got := c.queue(context.Background(), b, "x")
		var alone [][]*Host
		for _, m := range c.Voters {
			alone = append(alone, []*Host{m.Host})
		}
		c.W.Net.Partition(alone...)
		time.Sleep(ttl + 2*time.Second)
		if h.Valid() {
			c.Fatal("valid %v after the quorum was gone", ttl+2*time.Second)
		}
		back := raw.clock()
		c.W.Net.Heal()
		if h2 := c.take(got, 20*time.Second); h2.Token <= h.Token || h.Valid() {
			c.Fatal("token %d after %d, the old one valid: %v", h2.Token, h.Token, h.Valid())
		}
		c.Wait(20*time.Second, "y free", func() bool { return c.token("y") == 0 })
		if n := c.sessions(); n != 3 {
			c.Fatal("%d sessions live on", n)
		}
		lostAt, leaseAt := -1, -1
		for i, m := range raw.Got() {
			if Stands(2, api.Standing_STATE_GONE)(m) && lostAt < 0 {
				lostAt = i
			}
			if m.GetLease().GetDeadlineNanos() > back && leaseAt < 0 {
				leaseAt = i
			}
		}
		if lostAt < 0 || leaseAt >= 0 && leaseAt < lostAt {
			c.Fatal("told lost at %d, newer V at %d", lostAt, leaseAt)
		}
		c.Settled(time.Minute)
	})
}

// What was asked of an old leader that is cut off never comes to pass, neither
// from its queue nor from its log.
func TestStoryOldLeadersEntries(t *testing.T) {
	story(t, func(c *Cluster) {
		agent := c.linked("raw")
		defer agent.Close()
		at := c.holding(agent, 1, time.Minute, "x")
		c.W.Net.Partition([]*Host{c.Leader().Host, agent.host})
		ids := agent.Send(EndFor(1, at), agent.Open(2, 1, time.Minute))
		time.Sleep(5 * time.Millisecond)
		ids = append(ids, agent.Send(AcquireFor(1, at, 3, "z"))...)
		time.Sleep(8 * time.Second)
		c.W.Net.Heal()
		c.WaitLeader(20 * time.Second)
		time.Sleep(5 * time.Second)
		if c.sessions() != 1 || c.token("x") == 0 || c.token("z") != 0 {
			c.Fatal("%d sessions, x %d, z %d", c.sessions(), c.token("x"), c.token("z"))
		}
		for _, id := range ids {
			if p, err := agent.Answer(id, 0); err == nil && p.Outcome == linkpb.Proposed_OUTCOME_APPLIED {
				c.Fatal("the old leader answered %v", p)
			}
		}
	})
}

// Leadership is handed over while the old leader's connections hang: it does
// not know, and confirms nothing.
func TestStoryTransferOverHungConnections(t *testing.T) {
	story(t, func(c *Cluster) {
		old := c.Leader()
		agent := c.linked("raw")
		defer agent.Close()
		for range 5 {
			agent.Beat()
			time.Sleep(100 * time.Millisecond)
		}
		c.W.OnFrame(func(f *Frame) Action {
			if f.Kind == "raft/TimeoutNow" {
				for _, m := range c.Voters {
					if m != old {
						c.W.Net.Cut(m.Host, old.Host)
					}
				}
			}
			return Deliver
		})
		go func() { _ = old.Agent().Node().Transfer(old.Host.Context(), "", "") }()
		for c.Leader() == old || c.Leader() == nil {
			time.Sleep(time.Millisecond)
		}
		if !old.Agent().Leading() {
			c.Fatal("the old leader knows already")
		}
		late := agent.Beat()
		time.Sleep(2 * time.Second)
		if agent.Answered(late) {
			c.Fatal("renewed by a leader that leads no more")
		}
	})
}

// A hung voter is to take over: renewals are confirmed meanwhile, and holds go
// on across the change when it comes.
func TestStoryTransferToAHungVoter(t *testing.T) {
	story(t, func(c *Cluster) {
		old := c.Leader()
		a := c.open(c.Forwarders[0], "a", 6*time.Second)
		h := c.lock(a, "x")
		var to *Member
		for _, m := range c.Voters {
			if m != old {
				to = m
			}
		}
		to.Host.Pause()
		node, next := old.Agent().Node(), to.Agent()
		a.owned.Go(func() { _ = node.Transfer(old.Host.Context(), "", "") })
		for range 10 {
			time.Sleep(time.Second)
			if !h.Valid() {
				c.Fatal("lost while a transfer hung")
			}
		}
		to.Host.Resume()
		time.Sleep(10 * time.Second)
		if !h.Valid() || c.token("x") != h.Token {
			c.Fatal("valid %v, token %d; %s", h.Valid(), c.token("x"), next.ServerID())
		}
	})
}

// A voter's address is taken over by another voter, on the leader's side of a
// cut. Its word counts for itself alone: with two of five nothing is proved.
func TestStoryAddressReused(t *testing.T) {
	story(t, func(c *Cluster) {
		old := c.Leader()
		agent := c.linked("raw")
		defer agent.Close()
		var others []*Member
		for _, m := range c.Voters {
			if m != old {
				others = append(others, m)
			}
		}
		c.W.Net.Partition([]*Host{old.Host, others[0].Host, agent.host})
		c.W.MoveAddr(others[1].Host.Addr(), others[0].Host)
		early := agent.Beat() // it does not know yet that it is cut off
		c.Wait(time.Minute, "another leader", func() bool { l := c.Leader(); return l != nil && l != old })
		agent.Beat()
		time.Sleep(2 * time.Second)
		if agent.Answered(early) {
			c.Fatal("renewed on the word of two servers out of five")
		}
	})
}

// The leader and one more voter are killed at the instant a request commits,
// while a lock is held and three wait. Nothing is lost: same holder, same
// token, same order; the request is answered once; who was cancelled meanwhile
// is never granted.
func TestStoryTwoVotersKilled(t *testing.T) {
	story(t, func(c *Cluster) {
		const ttl = 10 * time.Second
		leader := c.Leader()
		var others []*Member
		for _, m := range c.Voters {
			if m != leader {
				others = append(others, m)
			}
		}
		f1, f2 := c.Forwarders[0], c.Forwarders[1]
		h := c.lock(c.open(f1, "holder", ttl), "x")
		first, second := c.open(f1, "first", ttl), c.open(f2, "second", ttl)
		third, asks := c.open(others[1], "third", ttl), c.open(f2, "asks", ttl)
		ctx, hangUp := context.WithCancel(context.Background())
		cancelled := c.queue(ctx, first, "x")
		got2 := c.queue(context.Background(), second, "x")
		got3 := c.queue(context.Background(), third, "x")
		time.Sleep(2 * time.Second)

		var under, killed atomic.Bool
		c.W.OnFrame(func(f *Frame) Action {
			if f.Kind == "link-up/propose/acquire" && f.From == "f2" {
				under.Store(true)
			}
			if f.Kind == "link-down/proposed" && f.To == "f2" && under.Load() && killed.CompareAndSwap(false, true) {
				others[0].Host.Crash()
				return KillFrom
			}
			return Deliver
		})
		asked := make(chan *Handle, 1)
		asks.owned.Go(func() {
			got, err := asks.TryLock(asks.ctx, "y")
			if err != nil {
				c.W.Fail("the request in flight: %v", err)
			}
			asked <- got
		})
		c.Wait(5*time.Second, "two voters killed", killed.Load)
		hangUp()
		c.WaitLeader(20 * time.Second)

		y := <-asked
		if y == nil || !y.Valid() || c.token("y") != y.Token || c.waiters("y") != 0 {
			c.Fatal("the request was not answered once: %v, token %d, %d wait", y, c.token("y"), c.waiters("y"))
		}
		if !h.Valid() || c.token("x") != h.Token {
			c.Fatal("valid %v, token %d after %d", h.Valid(), c.token("x"), h.Token)
		}
		c.Wait(5*time.Second, "the cancel", func() bool { return c.waiters("x") == 2 })
		c.must("unlock", h.Unlock(context.Background()))
		h2 := c.take(got2, time.Second)
		if len(got3) != 0 {
			c.Fatal("the third came before the second gave up")
		}
		c.must("unlock", h2.Unlock(context.Background()))
		h3 := c.take(got3, time.Second)
		if h2.Token != h.Token+2 || h3.Token != h2.Token+1 { // y's lies between
			c.Fatal("tokens %d, %d, %d", h.Token, h2.Token, h3.Token)
		}
		if _, granted := <-cancelled; granted {
			c.Fatal("granted after its cancel")
		}
		c.Settled(time.Minute)
	})
}
