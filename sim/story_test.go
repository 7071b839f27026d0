package sim

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/raftlock/raftlock/fsm"
)

// story runs f in a bubble on a cluster of five voters and two forwarders that
// has a leader. tunes may change that.
func story(t *testing.T, f func(*Cluster), tunes ...func(*ClusterConfig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		cfg := ClusterConfig{Voters: 5, Forwarders: 2}
		for _, tune := range tunes {
			tune(&cfg)
		}
		c := NewCluster(New(t, setting(t, "RAFTLOCK_SEED", 1)), cfg)
		defer c.Close()
		c.WaitLeader(2 * time.Minute)
		f(c)
	})
}

// must ends the story when err is not nil.
func (c *Cluster) must(what string, err error) {
	if err != nil {
		c.Fatal("%s: %v", what, err)
	}
}

// open starts an application with an open session.
func (c *Cluster) open(m *Member, name string, ttl time.Duration) *App {
	a := c.StartApp(m, name)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c.must("open "+name, a.Open(ctx, ttl))
	return a
}

// lock acquires within a minute.
func (c *Cluster) lock(a *App, name string) *Handle {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	h, err := a.Lock(ctx, name)
	c.must(a.Name+" locks "+name, err)
	return h
}

// queue waits for a lock in the background; the channel gets the handle, or is
// closed when the wait ended without.
func (c *Cluster) queue(ctx context.Context, a *App, name string) <-chan *Handle {
	got := make(chan *Handle, 1)
	before := c.waiters(name)
	a.owned.Go(func() {
		defer close(got)
		if h, err := a.Lock(ctx, name); err == nil {
			got <- h
		}
	})
	c.Wait(10*time.Second, a.Name+" waits for "+name, func() bool { return c.waiters(name) > before })
	return got
}

// info is what the leader's state says of a lock.
func (c *Cluster) info(name string) (i fsm.LockInfo, held bool) {
	if l := c.Leader(); l != nil {
		l.Inspect(func(s *fsm.State) { i, held = s.View().Get(name) })
	}
	return i, held
}

func (c *Cluster) waiters(name string) uint64 {
	i, _ := c.info(name)
	return i.Waiters
}

// token is the token of a lock's holder, or 0.
func (c *Cluster) token(name string) uint64 {
	i, _ := c.info(name)
	return i.Holder.GetToken()
}

// sessions counts the sessions in the leader's state.
func (c *Cluster) sessions() (n int) {
	if l := c.Leader(); l != nil {
		l.Inspect(func(s *fsm.State) {
			s.Sessions(func(fsm.SessionInfo) bool { n++; return true })
		})
	}
	return n
}

// take waits for a queued handle.
func (c *Cluster) take(got <-chan *Handle, within time.Duration) *Handle {
	select {
	case h, ok := <-got:
		if !ok {
			c.Fatal("the wait ended without a grant")
		}
		return h
	case <-time.After(within):
		c.Fatal("no grant within %v", within)
	}
	return nil
}
