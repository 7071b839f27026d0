package sim

import (
	"testing"
	"time"
)

// Heartbeats and their confirm take longer than a third of the shortest TTL. An
// agent took that for a leader that hangs, linked to it anew, and so threw away
// the very answers that it waited for: no heartbeat was ever answered.
func TestBugSlowNetRelinks(t *testing.T) {
	story(t, func(c *Cluster) {
		c.W.Net.SetDelay(100*time.Millisecond, 120*time.Millisecond)
		a := c.open(c.Forwarders[0], "a", 1500*time.Millisecond)
		time.Sleep(5 * time.Second) // to find out that it is slow, not dead
		if a.Session().Err() != nil {
			a = c.open(c.Forwarders[0], "again", 1500*time.Millisecond)
		}
		h := c.lock(a, "x")
		before := c.Checks.Count("links")
		time.Sleep(10 * time.Second)
		if links := c.Checks.Count("links") - before; links > 7 {
			c.Fatal("%d links in 10 s, though the leader answers", links)
		}
		if !h.Valid() {
			c.Fatal("not renewed: %v", a.Session().Err())
		}
	})
}
