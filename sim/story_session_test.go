package sim

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	api "github.com/raftlock/raftlock/api/raftlock/v1"
	"github.com/raftlock/raftlock/fsm/command"
)

// The answer to an open is lost, and much later the open is repeated: there is
// one session all along, and the late answer promises nothing new.
func TestStoryOpenAnswerLost(t *testing.T) {
	story(t, func(c *Cluster) {
		var lost atomic.Bool
		c.W.OnFrame(func(f *Frame) Action {
			if f.Kind == "link-down/proposed" && f.To == "f1" && lost.CompareAndSwap(false, true) {
				return Cut
			}
			return Deliver
		})
		const ttl = 10 * time.Second
		r := c.attach(c.Forwarders[0], "raw", ttl)
		if !lost.Load() {
			c.Fatal("the answer was not lost")
		}
		c.acquire(r, 2, "x")
		time.Sleep(time.Minute)
		r.Connect()
		r.SendOpen(1, ttl)
		again := func(m *api.SessionResponse) bool {
			return m.GetAttached().GetSeq() == 1 && time.Duration(m.GetAttached().GetClockNanos()) > r.m.Host.Clock()()-ttl
		}
		m, err := r.Await(5*time.Second, again)
		c.must("the repeated open", err)
		if m.GetAttached().Reason != api.Reason_REASON_OK || c.sessions() != 1 || c.Checks.Count("opened") != 1 {
			c.Fatal("%d sessions, %d opened; told %v", c.sessions(), c.Checks.Count("opened"), m)
		}
		if c.token("x") == 0 {
			c.Fatal("the repeated open lost the hold")
		}
	})
}

// An end races a resume: whichever the log has first wins, and the other has no
// effect.
func TestStoryEndRacesResume(t *testing.T) {
	story(t, func(c *Cluster) {
		dying, next := c.linked("dying"), c.linked("next")
		defer dying.Close()
		defer next.Close()
		at := c.holding(dying, 1, time.Minute, "x")
		c.result(next, next.Resume(1, 3))
		if r := c.result(dying, EndFor(1, at)); r.Code != command.Code_CODE_SUPERSEDED || c.token("x") == 0 {
			c.Fatal("the resume won, but the end said %v and the token is %d", r.Code, c.token("x"))
		}
		at = c.holding(dying, 2, time.Minute, "y")
		c.result(dying, EndFor(2, at))
		if r := c.result(next, next.Resume(2, 3)); r.Code != command.Code_CODE_NO_SESSION || c.token("y") != 0 {
			c.Fatal("the end won, but the resume said %v and the token is %d", r.Code, c.token("y"))
		}
	})
}

// A process dies while its open is on its way. Its session ends within seconds
// of its beginning, not by its TTL of a minute.
func TestStoryDeathDuringOpen(t *testing.T) {
	story(t, func(c *Cluster) {
		r := c.StartRaw(c.Forwarders[0], "raw")
		c.W.OnFrame(func(f *Frame) Action {
			if f.Kind == "link-up/propose/open" {
				r.Kill()
			}
			return Deliver
		})
		r.SendOpen(1, time.Minute)
		time.Sleep(3 * time.Second)
		if c.Checks.Count("opened") != 1 || c.sessions() != 0 {
			c.Fatal("opened %d, %d sessions left", c.Checks.Count("opened"), c.sessions())
		}
	})
}

// A TTL is made smaller just before the leader dies. The next leader counts by
// the smaller one, and so did the holders from before they asked.
func TestStorySmallerTTLBeforeElection(t *testing.T) {
	const small = 600 * time.Millisecond
	t.Run("agent", func(t *testing.T) {
		story(t, func(c *Cluster) {
			raw := c.attach(c.Forwarders[0], "raw", 20*time.Second)
			c.acquire(raw, 2, "x")
			c.unanswered(func() { raw.SendTTL(3, small) })
			if st := raw.Standing(2); st.GetState() != api.Standing_STATE_GONE {
				c.Fatal("x was granted to the next while its holder believes %v", st)
			}
		})
	})
	t.Run("sdk", func(t *testing.T) {
		story(t, func(c *Cluster) {
			a := c.open(c.Forwarders[0], "a", 20*time.Second)
			c.lock(a, "x")
			c.unanswered(func() { a.owned.Go(func() { _ = a.Session().SetTTL(a.ctx, small) }) })
		})
	})
}

// unanswered lets x, which an application of the first forwarder holds, wait for
// the next, has its holder ask for another TTL, and kills the leader before the
// answer has left: the TTL is in the log, and nobody told the holder. It returns
// when the next has x.
func (c *Cluster) unanswered(ask func()) {
	f1, leader := c.Forwarders[0], c.Leader().Host
	next := c.queue(context.Background(), c.open(c.Forwarders[1], "next", 20*time.Second), "x")
	var asked atomic.Bool
	c.W.OnFrame(func(f *Frame) Action {
		switch {
		case f.Kind == "link-up/propose/set_ttl":
			asked.Store(true)
		case f.Kind == "link-down/proposed" && f.To == f1.Host.Name && f.From == leader.Name && asked.Load():
			// Nothing else of this agent is on its way.
			c.W.Net.Isolate(f1.Host)
			return KillFrom
		}
		return Deliver
	})
	ask()
	c.take(next, 30*time.Second)
	if leader.Up() {
		c.Fatal("the leader lives")
	}
}

// Sessions of one agent with different TTLs: when it falls silent each is ended
// by its own.
func TestStoryMixedTTLs(t *testing.T) {
	story(t, func(c *Cluster) {
		w := c.open(c.Forwarders[1], "w", 30*time.Second)
		ttls := map[string]time.Duration{"x": 600 * time.Millisecond, "y": 3 * time.Second, "z": 12 * time.Second}
		queues := make(map[string]<-chan *Handle)
		for _, lock := range []string{"z", "y", "x"} { // the shortest comes when beats are rare
			c.lock(c.open(c.Forwarders[0], "holder of "+lock, ttls[lock]), lock)
			queues[lock] = c.queue(context.Background(), w, lock)
		}
		time.Sleep(5 * time.Second)
		c.W.Net.Isolate(c.Forwarders[0].Host)
		began := c.W.Now()
		for _, lock := range []string{"x", "y", "z"} {
			c.take(queues[lock], 20*time.Second)
			if took, ttl := c.W.Now()-began, ttls[lock]; took < ttl*8/10 || took > ttl+2*time.Second {
				c.Fatal("%s with a TTL of %v was granted after %v", lock, ttl, took)
			}
		}
	})
}

// A host is paused past its sessions' TTL, and what was under way when it slept
// goes on first: the answer to a heartbeat, heartbeats. Its hold was granted to
// the next meanwhile, and is not valid again.
func TestStoryPausedHost(t *testing.T) {
	story(t, func(c *Cluster) {
		f1, f2 := c.Forwarders[0], c.Forwarders[1]
		a := c.open(f1, "a", 3*time.Second)
		h := c.lock(a, "x")
		got := c.queue(context.Background(), c.open(f2, "b", 3*time.Second), "x")
		time.Sleep(5 * time.Second)
		c.W.OnFrame(func(f *Frame) Action {
			if f.Kind == "link-up/beat" && f.From == "f1" {
				c.W.OnFrame(nil)
				f1.Host.Pause() // with a heartbeat on its way
			}
			return Deliver
		})
		h2 := c.take(got, 10*time.Second)
		if h.Valid() {
			c.Fatal("valid while the next holds")
		}
		f1.Host.Resume()
		for range 100 {
			time.Sleep(50 * time.Millisecond)
			if h.Valid() || !h2.Valid() {
				c.Fatal("after the pause: the paused one valid %v, the next %v", h.Valid(), h2.Valid())
			}
		}
	})
}

// A hold is revoked: its waiter is granted once the holder's V has passed, and
// at once only where that was asked for.
func TestStoryForceRelease(t *testing.T) {
	story(t, func(c *Cluster) {
		const ttl = 5 * time.Second
		a := c.open(c.Forwarders[0], "a", ttl)
		b := c.open(c.Forwarders[1], "b", ttl)
		h := c.lock(a, "x")
		keeps := c.lock(a, "other")
		got := c.queue(context.Background(), b, "x")
		time.Sleep(20 * time.Second)
		began := c.W.Now()
		c.revoke("x", false)
		select {
		case <-h.Lock.Revoked():
		case <-time.After(time.Second):
			c.Fatal("the holder was not told")
		}
		if !h.Valid() {
			c.Fatal("lost at once")
		}
		c.take(got, 2*ttl)
		if took := c.W.Now() - began; took < ttl/2 || took > ttl+time.Second {
			c.Fatal("granted after %v", took)
		}
		if h.Valid() || !keeps.Valid() {
			c.Fatal("the revoked hold is valid: %v; the other one: %v", h.Valid(), keeps.Valid())
		}

		raw := c.attach(c.Forwarders[0], "raw", ttl)
		c.acquire(raw, 2, "z")
		got = c.queue(context.Background(), b, "z")
		c.revoke("z", true)
		c.take(got, 100*time.Millisecond)
	})
}

// revoke force-releases through the leader's own agent.
func (c *Cluster) revoke(lock string, now bool) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	r, err := c.Leader().Agent().Sessions().Propose(ctx, &command.Command{Kind: &command.Command_Revoke{
		Revoke: &command.Revoke{Lock: lock, Now: now, By: "story"},
	}})
	c.must("revoke", err)
	if r.Code != command.Code_CODE_OK {
		c.Fatal("revoke: %v", r)
	}
}

// A hold is revoked while its agent is being restarted: the resume brings the
// session back, and not the revoked hold's V.
func TestStoryRevokedDuringRestart(t *testing.T) {
	story(t, func(c *Cluster) {
		const ttl = 10 * time.Second
		f1 := c.Forwarders[0]
		a := c.open(f1, "a", ttl)
		b := c.open(c.Forwarders[1], "b", ttl)
		h := c.lock(a, "x")
		keeps := c.lock(a, "other")
		got := c.queue(context.Background(), b, "x")
		time.Sleep(5 * time.Second)
		f1.Host.Crash()
		v := a.Session().Deadline()
		c.revoke("x", false)
		time.Sleep(time.Second)
		f1.Host.Restart()
		h2 := c.take(got, 2*ttl)
		if late := f1.Host.Clock()() - v; late > time.Second {
			c.Fatal("granted %v after the V from before the restart", late)
		}
		if h.Valid() || !h2.Valid() || !keeps.Valid() {
			c.Fatal("valid: revoked %v, next %v, other %v", h.Valid(), h2.Valid(), keeps.Valid())
		}
	})
}
