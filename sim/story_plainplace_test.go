package sim

import (
	"context"
	"testing"
	"time"

	api "github.com/raftlock/raftlock/api/raftlock/v1"
)

// placed is a plain wait under way.
type placed struct {
	leave context.CancelFunc
	token chan uint64 // 0: it was given up
}

func (c *Cluster) waitsAs(a api.RaftLockServer, owner string) placed {
	ctx, leave := context.WithCancel(context.Background())
	p := placed{leave, make(chan uint64, 1)}
	q := plainFor(owner, 30*time.Second, 20*time.Second)
	q.RequestId = "r"
	go func() {
		r, _ := a.Acquire(ctx, q)
		p.token <- r.GetLock().GetToken()
	}()
	// By then it waits, whether that is seen in the queue or not.
	time.Sleep(500 * time.Millisecond)
	return p
}

// A request id keeps a place in the queue while a call of its agent is open: who
// hangs up gives the place up, and its repetition waits at the end. What becomes
// of it when the agent is gone tells TestStoryPlainKeepsItsPlaceElsewhere.
func TestStoryPlainPlaceOfARepetition(t *testing.T) {
	for _, v := range []struct {
		name string
		// Ends with o's call that is open.
		repeated func(c *Cluster, a api.RaftLockServer, first placed) placed
		keepsIt  bool
	}{
		{"after a hang-up", func(c *Cluster, a api.RaftLockServer, first placed) placed {
			first.leave()
			c.Wait(time.Second, "o leaves", func() bool { return c.waiters("x") == 1 })
			return c.waitsAs(a, "o")
		}, false},
		{"before the hang-up", func(c *Cluster, a api.RaftLockServer, first placed) placed {
			again := c.waitsAs(a, "o")
			first.leave()
			<-first.token
			return again
		}, true},
	} {
		t.Run(v.name, func(t *testing.T) {
			story(t, func(c *Cluster) {
				ctx := context.Background()
				a, b := c.plainAPI(c.Forwarders[0]), c.plainAPI(c.Forwarders[1])
				h, err := b.Acquire(ctx, plainFor("h", 30*time.Second, 0))
				c.must("acquire of h", err)
				first := c.waitsAs(a, "o")
				behind := c.waitsAs(b, "p")
				again := v.repeated(c, a, first)
				if n := c.waiters("x"); n != 2 {
					c.Fatal("%d wait", n)
				}
				_, err = b.Release(ctx, &api.ReleaseRequest{Lock: "x", Owner: "h", Token: h.Lock.Token})
				c.must("release of h", err)
				next, last := behind, again
				if v.keepsIt {
					next, last = again, behind
				}
				token := <-next.token
				if token != h.Lock.Token+1 {
					c.Fatal("token %d is granted after %d", token, h.Lock.Token)
				}
				owner := map[bool]string{true: "o", false: "p"}[v.keepsIt]
				_, err = b.Release(ctx, &api.ReleaseRequest{Lock: "x", Owner: owner, Token: token})
				c.must("release of "+owner, err)
				if got := <-last.token; got != token+1 {
					c.Fatal("token %d is granted after %d", got, token)
				}
			})
		})
	}
}
