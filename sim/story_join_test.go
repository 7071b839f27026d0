package sim

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	api "github.com/raftlock/raftlock/api/raftlock/v1"
)

// join starts a further process of a session and waits until it is one. With a
// TTL it beats.
func (c *Cluster) join(of *RawApp, name string, ttl time.Duration) *RawApp {
	b := c.StartRaw(of.m, name)
	b.SendJoin(of)
	m, err := b.Await(5*time.Second, Attached(0))
	c.must(name+" joins", err)
	if m.GetAttached().Reason != api.Reason_REASON_OK {
		c.Fatal("%s joins: %v", name, m)
	}
	if ttl != 0 {
		b.KeepBeating(ttl / 9)
	}
	return b
}

// The opener dies while a process that joined lives: the session goes on by its
// beats, through an election too, and ends at once with the last process.
func TestStoryOpenerDiesFirst(t *testing.T) {
	story(t, func(c *Cluster) {
		const ttl = 6 * time.Second
		f1 := c.Forwarders[0]
		a := c.attach(f1, "a", ttl)
		c.acquire(a, 2, "x")
		b := c.join(a, "b", ttl)
		third := c.join(a, "third", ttl)
		got := c.queue(context.Background(), c.open(c.Forwarders[1], "w", ttl), "x")
		third.Kill()
		token := c.token("x")
		a.Kill()
		time.Sleep(2 * ttl)
		old := c.Leader().Host
		old.Crash()
		time.Sleep(2 * ttl)
		old.Restart()
		c.WaitLeader(time.Minute)
		if c.token("x") != token {
			c.Fatal("x went from token %d to %d while a process of its session lives", token, c.token("x"))
		}
		began := c.W.Now()
		b.Kill()
		c.take(got, ttl)
		if took := c.W.Now() - began; took > 200*time.Millisecond {
			c.Fatal("granted %v after the last process's death", took)
		}
	})
}

// A process that joined and does not beat is alive, and speaks for nothing: the
// lease runs out.
func TestStoryJoinedIsStopped(t *testing.T) {
	story(t, func(c *Cluster) {
		const ttl = 6 * time.Second
		a := c.attach(c.Forwarders[0], "a", ttl)
		c.acquire(a, 2, "x")
		b := c.join(a, "b", 0)
		got := c.queue(context.Background(), c.open(c.Forwarders[1], "w", ttl), "x")
		a.Kill()
		began := c.W.Now()
		c.take(got, 2*ttl)
		if took := c.W.Now() - began; took < ttl/2 || took > ttl*14/10+time.Second {
			c.Fatal("granted after %v", took)
		}
		_, err := b.Await(5*time.Second, func(m *api.SessionResponse) bool {
			return m.GetEnded().GetReason() == api.Reason_REASON_EXPIRED
		})
		c.must("the joined process hears of it", err)
	})
}

// The opener dies while a join is on its way, at each step of it, and with the
// link that carried it or without. Who is told that it joined keeps the
// session; who is not is told so, and nothing is left.
func TestStoryOpenerDiesDuringAJoin(t *testing.T) {
	for name, at := range map[string]struct {
		kind string
		cut  bool
		// early: the opener dies as the join is proposed, whatever is cut later.
		early bool
	}{
		"the request":                   {kind: "b/join"},
		"the proposal":                  {kind: "link-up/propose/join"},
		"the proposal, lost":            {kind: "link-up/propose/join", cut: true},
		"the answer":                    {kind: "link-down/proposed"},
		"the answer, lost":              {kind: "link-down/proposed", cut: true},
		"the word to the joined":        {kind: "b-down/attached"},
		"the word to the joined, lost":  {kind: "b-down/attached", cut: true},
		"the opener's leave, lost":      {kind: "link-up/propose/leave", cut: true, early: true},
		"the answer to the leave, lost": {kind: "link-down/proposed", cut: true, early: true},
	} {
		t.Run(name, func(t *testing.T) {
			story(t, func(c *Cluster) {
				a := c.attach(c.Forwarders[0], "a", 20*time.Second)
				c.acquire(a, 2, "x")
				b := c.StartRaw(c.Forwarders[0], "b")
				var joining, hit atomic.Bool
				c.W.OnFrame(func(f *Frame) Action {
					if f.Kind == "b/join" {
						joining.Store(true)
					}
					if at.early && f.Kind == "link-up/propose/join" {
						a.Kill()
					}
					if f.Kind != at.kind || f.From != "f1" && f.To != "f1" || !joining.Load() || !hit.CompareAndSwap(false, true) {
						return Deliver
					}
					a.Kill()
					if at.cut {
						return Cut
					}
					return Deliver
				})
				b.SendJoin(a)
				time.Sleep(4 * time.Second)
				if !hit.Load() {
					c.Fatal("no frame of the kind")
				}
				m, err := b.Await(0, Attached(0))
				if err == nil && m.GetAttached().Reason == api.Reason_REASON_OK && c.token("x") == 0 {
					c.Fatal("joined, and the session is gone: %v", b.Got())
				}
				b.Kill()
				c.Wait(4*time.Second, "x free", func() bool { return c.token("x") == 0 && c.sessions() == 0 })
			})
		})
	}
}
