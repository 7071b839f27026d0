package sim

import (
	"context"
	"fmt"
	"testing"
	"time"
)

// A session was opened with a long TTL, then took a short one. The reconcile of
// its next link moved V by the open's sending once more, with the long TTL: far
// beyond D.
func TestBugReconcileMovesVByFormerTTL(t *testing.T) {
	story(t, func(c *Cluster) {
		a := c.open(c.Forwarders[0], "a", 20*time.Second)
		b := c.open(c.Forwarders[1], "b", 10*time.Second)
		h := c.lock(a, "x")
		got := c.queue(context.Background(), b, "x")
		c.must("shorter TTL", a.SetTTL(context.Background(), 600*time.Millisecond))
		c.cutNext("link-up/beat", "f1")
		time.Sleep(time.Second)
		if !h.Valid() {
			c.Fatal("not held over a new link")
		}
		c.Forwarders[0].Host.Crash()
		c.take(got, 2*time.Second) // the checkers look at h when it is granted
	})
}

// A session with a short TTL at an agent whose others are long: its first
// heartbeat was due when that of the others was, and too late.
func TestBugShortTTLBesideLong(t *testing.T) {
	story(t, func(c *Cluster) {
		const short = 400 * time.Millisecond
		c.open(c.Forwarders[0], "a", 10*time.Second)
		for phase := range 8 { // of the long one's heartbeats
			name, ttl := fmt.Sprint("lock", phase), short
			if phase%2 == 1 {
				ttl = 10 * time.Second
			}
			b := c.open(c.Forwarders[0], name, ttl)
			h := c.lock(b, name)
			if ttl != short {
				c.must("shorter TTL", b.SetTTL(context.Background(), short))
			}
			time.Sleep(3 * time.Second)
			if !h.Valid() {
				c.Fatal("a session with a short TTL was not renewed: %v", b.Session().Err())
			}
			b.Kill()
			time.Sleep(time.Second + time.Duration(phase)*150*time.Millisecond)
		}
	})
}

// cutNext cuts the connection of the next frame of that kind that a host sends.
func (c *Cluster) cutNext(kind, from string) {
	done := false
	c.W.OnFrame(func(f *Frame) Action {
		c.W.mu.Lock()
		defer c.W.mu.Unlock()
		if done || f.Kind != kind || f.From != from {
			return Deliver
		}
		done = true
		return Cut
	})
}
