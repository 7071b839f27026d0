package sim

import (
	"context"
	"testing"
	"time"
)

// Voters come back at other addresses, one by one and then all at once, and
// nobody answers where they were: they find each other by what gossip tells,
// and agents find the leader. The holder holds all along.
func TestStoryVotersMove(t *testing.T) {
	story(t, func(c *Cluster) {
		const ttl = 20 * time.Second
		h := c.lock(c.open(c.Forwarders[0], "a", ttl), "x")
		b := c.open(c.Forwarders[1], "b", ttl)
		move := func(ms ...*Member) {
			for _, m := range ms {
				m.Host.Crash()
			}
			for _, m := range ms {
				c.W.NewAddr(m.Host)
				m.Host.Restart()
			}
		}
		use := func(lock string) {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			c.must("unlock "+lock, c.lock(b, lock).Unlock(ctx))
		}
		for _, m := range c.Voters {
			move(m)
			c.Wait(20*time.Second, m.Host.Name+" follows", func() bool {
				l := c.Leader()
				return l != nil && m.Agent().Node() != nil &&
					m.Agent().Node().AppliedIndex() >= l.Agent().Node().CommitIndex()
			})
			use("after " + m.Host.Name)
		}
		move(c.Voters...)
		c.WaitLeader(30 * time.Second)
		use("after all")
		time.Sleep(2 * ttl) // heartbeats are answered: a majority is found
		if !h.Valid() {
			c.Fatal("the holder lost its lock")
		}
		c.Forwarders[0].Host.Restart()
		time.Sleep(10 * time.Second)
		if !h.Valid() {
			c.Fatal("the holder lost its lock by its agent's restart")
		}
	})
}

// Voters hear of each other by gossip no more: they are where Raft's
// configuration has them, and asked there.
func TestStoryGossipForgets(t *testing.T) {
	story(t, func(c *Cluster) {
		a := c.open(c.Forwarders[0], "a", 20*time.Second)
		h := c.lock(a, "x")
		for _, m := range c.Voters {
			for _, o := range c.Voters {
				if o != m {
					c.Pool.Hide(m.Host, o.Host, true)
				}
			}
		}
		old := c.Leader()
		old.Host.Crash()
		c.WaitLeader(20 * time.Second)
		old.Host.Restart()
		time.Sleep(30 * time.Second)
		if !h.Valid() {
			c.Fatal("the holder lost its lock")
		}
	})
}
