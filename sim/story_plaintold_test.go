package sim

import (
	"context"
	"testing"
	"time"

	api "github.com/raftlock/raftlock/api/raftlock/v1"
	"github.com/raftlock/raftlock/link"
	"github.com/raftlock/raftlock/link/linkpb"
)

// toldUntilV fails the run if a lock was granted to the next before V of the
// hold that an agent's caller was told of.
func (c *Cluster) toldUntilV(m *Member, told, next *api.PlainLock) {
	if now, v := m.Host.Clock()(), time.Duration(told.DeadlineNanos); now < v {
		c.Fatal("token %d is granted %v before V of token %d, which its owner was told", next.Token, v-now, told.Token)
	}
}

// A request is repeated under its id at the same agent, as the documentation
// says is safe, and its wait ends without an answer: what the first was told
// stays.
func TestStoryPlainRepetitionTakesNothingBack(t *testing.T) {
	story(t, func(c *Cluster) {
		ctx, m := context.Background(), c.Forwarders[0]
		a := c.plainAPI(m)
		q := plainFor("o", 30*time.Second, 3*time.Second)
		q.RequestId = "r"
		first, err := a.Acquire(ctx, q)
		c.must("acquire", err)
		var alone [][]*Host
		for _, m := range c.Voters {
			alone = append(alone, []*Host{m.Host})
		}
		c.W.Net.Partition(alone...)
		_, err = a.Acquire(ctx, q)
		c.refusedFor("repeated without a quorum", err, "NO_QUORUM", "unknown")
		c.W.Net.Heal()
		next, err := c.plainAPI(c.Forwarders[1]).Acquire(ctx, plainFor("p", 30*time.Second, time.Minute))
		c.must("acquire of another owner", err)
		c.toldUntilV(m, first.Lock, next.Lock)
	})
}

// A caller gives up on an agent that is cut off, and asks another one under the
// same id: the cancel of the first, which comes late, leaves it what it was told.
func TestStoryPlainLateCancelElsewhere(t *testing.T) {
	story(t, func(c *Cluster) {
		const ttl = 30 * time.Second
		ctx := context.Background()
		fa, fb := c.Forwarders[0], c.Forwarders[1]
		a, b := c.plainAPI(fa), c.plainAPI(fb)
		h, err := b.Acquire(ctx, plainFor("h", ttl, 0))
		c.must("acquire of h", err)
		q := plainFor("o", ttl, 20*time.Second)
		q.RequestId = "r"
		actx, leave := context.WithCancel(ctx)
		gone := make(chan struct{})
		go func() { defer close(gone); _, _ = a.Acquire(actx, q) }()
		c.Wait(time.Second, "o waits", func() bool { return c.waiters("x") == 1 })
		var rest []*Host
		for _, m := range append(c.Voters, c.Forwarders[1:]...) {
			rest = append(rest, m.Host)
		}
		c.W.Net.Partition([]*Host{fa.Host}, rest)
		leave()
		<-gone
		released := make(chan error, 1)
		go func() {
			c.Wait(10*time.Second, "o waits at the other agent", func() bool { return c.waiters("x") == 2 })
			_, err := b.Release(ctx, &api.ReleaseRequest{Lock: "x", Owner: "h", Token: h.Lock.Token})
			released <- err
		}()
		told, err := b.Acquire(ctx, q)
		c.must("acquire of o by the other agent", err)
		c.must("release of h", <-released)
		c.W.Net.Heal()
		next, err := b.Acquire(ctx, plainFor("p", ttl, time.Minute))
		c.must("acquire of p", err)
		c.toldUntilV(fb, told.Lock, next.Lock)
	})
}

// A wait is repeated under its id at another agent while the first one, cut off,
// cannot cancel: it goes by the first one's place, before those who came since.
func TestStoryPlainKeepsItsPlaceElsewhere(t *testing.T) {
	story(t, func(c *Cluster) {
		const ttl = 30 * time.Second
		ctx := context.Background()
		fa, fb := c.Forwarders[0], c.Forwarders[1]
		a, b := c.plainAPI(fa), c.plainAPI(fb)
		h, err := b.Acquire(ctx, plainFor("h", ttl, 0))
		c.must("acquire of h", err)
		waits := func(at interface {
			Acquire(context.Context, *api.AcquireRequest) (*api.AcquireResponse, error)
		}, owner string, waiters uint64) <-chan uint64 {
			q := plainFor(owner, ttl, 20*time.Second)
			q.RequestId = "r"
			got := make(chan uint64, 1)
			go func() {
				r, _ := at.Acquire(ctx, q)
				got <- r.GetLock().GetToken()
			}()
			c.Wait(time.Second, owner+" waits", func() bool { return c.waiters("x") == waiters })
			return got
		}
		first := waits(a, "o", 1)
		other := waits(b, "p", 2)
		var rest []*Host
		for _, m := range append(c.Voters, c.Forwarders[1:]...) {
			rest = append(rest, m.Host)
		}
		c.W.Net.Partition([]*Host{fa.Host}, rest)
		again := waits(b, "o", 3)
		_, err = b.Release(ctx, &api.ReleaseRequest{Lock: "x", Owner: "h", Token: h.Lock.Token})
		c.must("release of h", err)
		token := <-again
		if token != h.Lock.Token+1 {
			c.Fatal("token %d is granted to the repetition, after %d", token, h.Lock.Token)
		}
		c.W.Net.Heal()
		if got := <-first; got != token {
			c.Fatal("the first caller was told token %d, the second %d", got, token)
		}
		_, err = b.Release(ctx, &api.ReleaseRequest{Lock: "x", Owner: "o", Token: token})
		c.must("release of o", err)
		if got := <-other; got <= token {
			c.Fatal("token %d is granted after %d", got, token)
		}
	})
}

// A release that names no version is served by a read, which no crowd of other
// reads of its agent keeps away.
func TestStoryUpkeepReadsHaveTheirOwnSlots(t *testing.T) {
	story(t, func(c *Cluster) {
		agent := c.linked("raw")
		defer agent.Close()
		const crowd = 1000
		var batch []*link.Up
		for id := range uint64(crowd + 1) {
			batch = append(batch, &link.Up{Frame: &linkpb.Up_Query{Query: &linkpb.Query{
				Id: id, Upkeep: id == crowd, Query: &linkpb.Query_Get{Get: &linkpb.GetLock{Lock: "x"}},
			}}})
		}
		c.must("send", agent.conn.Send(batch))
		refused := 0
		c.Wait(time.Second, "all answers", func() bool { return len(agent.Got()) == crowd+1 })
		for _, f := range agent.Got() {
			switch q := f.GetQuery(); {
			case q.Id == crowd && !q.Ok:
				c.Fatal("the read of a release: %s", q.Detail)
			case !q.Ok:
				refused++
			}
		}
		if refused == 0 {
			c.Fatal("no crowd")
		}
	})
}

// A wait of a very short TTL does not fill the log with its renewals: the TTL is
// raised, and the answer says so. One below the least is refused all the same.
func TestStoryPlainWaitOfAShortTTL(t *testing.T) {
	story(t, func(c *Cluster) {
		ctx, m := context.Background(), c.Forwarders[0]
		a := c.plainAPI(m)
		_, err := a.Acquire(ctx, plainFor("h", time.Minute, 0))
		c.must("acquire of h", err)
		_, err = a.Acquire(ctx, plainFor("o", 100*time.Millisecond, time.Minute))
		c.refusedFor("a TTL below the least", err, "INVALID", "no")
		told := make(chan *api.AcquireResponse, 1)
		go func() {
			r, _ := a.Acquire(ctx, plainFor("o", 200*time.Millisecond, time.Minute))
			told <- r
		}()
		c.Wait(time.Second, "o waits", func() bool { return c.waiters("x") == 1 })
		before := c.Checks.Count("renewed plain")
		time.Sleep(10 * time.Second)
		if n := c.Checks.Count("renewed plain") - before; n < 20 || n > 40 {
			c.Fatal("renewed %d times in 10 s", n)
		}
		_, err = a.Release(ctx, &api.ReleaseRequest{Lock: "x", Owner: "h"})
		c.must("release of h", err)
		if r := <-told; time.Duration(r.GetLock().GetTtlNanos()) != time.Second {
			c.Fatal("told %v", r)
		}
	})
}
