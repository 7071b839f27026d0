package sim

import (
	"context"
	"testing"
	"time"

	api "github.com/raftlock/raftlock/api/raftlock/v1"
)

// An agent dies, then its process; the restarted agent has proof of that and
// ends the session at once, and no other one: not of the process that lives and
// resumes, nor of one that wants its lease to run out, nor where one that joined
// lives.
func TestStoryProofOfDeath(t *testing.T) {
	story(t, func(c *Cluster) {
		const ttl = time.Minute
		f1 := c.Forwarders[0]
		w := c.open(c.Forwarders[1], "w", ttl)
		dies, lives := c.attach(f1, "dies", ttl), c.open(f1, "lives", ttl)
		c.acquire(dies, 2, "x")
		h := c.lock(lives, "y")
		a := c.attach(f1, "a", ttl)
		c.acquire(a, 2, "z")
		b := c.join(a, "b", ttl)
		x, z := c.queue(context.Background(), w, "x"), c.queue(context.Background(), w, "z")
		token := c.token("z")
		f1.Host.Crash()
		time.Sleep(time.Second)
		dies.Kill()
		a.Kill()
		time.Sleep(time.Second)
		f1.Host.Restart()
		began := c.W.Now()
		c.take(x, 2*time.Second)
		c.W.Logf("granted %v after the restart", c.W.Now()-began)
		time.Sleep(20 * time.Second)
		if !h.Valid() || c.token("z") != token {
			c.Fatal("y valid: %v; z went from token %d to %d", h.Valid(), token, c.token("z"))
		}
		b.Kill()
		c.take(z, 4*time.Second)
	})
}

// After the agent's restart the opener resumes, and a process that had joined
// does not join anew: it counts for all that. The opener's death ends nothing
// while it lives; with both gone the proof of that ends the session.
func TestStoryJoinedBeforeTheRestart(t *testing.T) {
	story(t, func(c *Cluster) {
		const ttl = 30 * time.Second
		f1 := c.Forwarders[0]
		a := c.attach(f1, "a", ttl)
		c.acquire(a, 2, "x")
		b := c.join(a, "b", ttl)
		w := c.queue(context.Background(), c.open(c.Forwarders[1], "w", ttl), "x")
		token := c.token("x")
		f1.Host.Restart()
		time.Sleep(time.Second)
		a.Connect()
		a.SendResume(3, ttl)
		_, err := a.Await(5*time.Second, Attached(3))
		c.must("resume", err)
		a.SendReconcile(4, &api.Belief{Seq: 2, Token: token, Lock: "x"})
		time.Sleep(time.Second)
		a.Kill()
		time.Sleep(10 * time.Second)
		if c.token("x") != token {
			c.Fatal("x went from token %d to %d while a process of its session lives", token, c.token("x"))
		}
		b.Kill()
		c.take(w, 4*time.Second)
	})
}
