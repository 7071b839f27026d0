package sim

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// story runs f in a bubble with a cluster that has a leader.
func story(t *testing.T, seed uint64, f func(*Cluster)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		c := NewCluster(New(t, seed), ClusterConfig{Voters: 5, Forwarders: 2})
		defer c.Close()
		c.WaitLeader(2 * time.Minute)
		f(c)
	})
}

func TestStoryHandOff(t *testing.T) {
	story(t, 1, func(c *Cluster) {
		ctx := context.Background()
		a := c.StartApp(c.Forwarders[0], "a")
		b := c.StartApp(c.Forwarders[1], "b")
		if err := a.Open(ctx, 10*time.Second); err != nil {
			c.W.Fail("open a: %v", err)
		}
		if err := b.Open(ctx, 10*time.Second); err != nil {
			c.W.Fail("open b: %v", err)
		}
		h, err := a.Lock(ctx, "x")
		if err != nil {
			c.W.Fail("lock: %v", err)
		}
		got := make(chan *Handle, 1)
		go func() {
			h, err := b.Lock(ctx, "x")
			if err != nil {
				c.W.Fail("wait: %v", err)
			}
			got <- h
		}()
		time.Sleep(time.Minute)
		if !h.Valid() {
			c.W.Fail("not held after a minute")
		}
		start := time.Now()
		a.Kill()
		h2 := <-got
		c.W.Logf("handed off after %v", time.Since(start))
		t.Logf("handed off after %v, token %d -> %d", time.Since(start), h.Token, h2.Token)
		c.Settled(time.Minute)
	})
}
