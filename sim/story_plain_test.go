package sim

import (
	"context"
	"testing"
	"time"

	"github.com/raftlock/raftlock/fsm/command"
)

// plain is a request without a session through a member's agent.
func (c *Cluster) plain(m *Member, x *command.Command) *command.Result {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	r, err := m.Agent().Sessions().Propose(ctx, x)
	if err != nil {
		c.W.Fail("plain request: %v", err)
		return &command.Result{}
	}
	return r
}

// plainTake acquires or waits; the result tells.
func (c *Cluster) plainTake(ctx context.Context, m *Member, owner, request string, ttl time.Duration) (*command.Result, error) {
	r, err := m.Agent().Sessions().PlainAcquire(ctx, &command.PlainAcquire{
		Owner: owner, Lock: "x", TtlNanos: uint64(ttl), RequestId: request, Identity: "uid:1000",
	})
	return r.Result, err
}

func plainRenew(owner string, token uint64, ttl time.Duration) *command.Command {
	return &command.Command{Kind: &command.Command_PlainRenew{PlainRenew: &command.PlainRenew{
		Owner: owner, Lock: "x", Token: token, TtlNanos: uint64(ttl),
	}}}
}

func plainToken(r *command.Result) uint64 {
	if r.GetCode() != command.Code_CODE_OK || len(r.Standings) != 1 {
		return 0
	}
	return r.Standings[0].Token
}

// One owner's plain requests through two agents: one hold and one token. Others
// wait by request id; who hangs up waits no more; a hold that nobody renews
// goes.
func TestStoryPlainThroughTwoAgents(t *testing.T) {
	story(t, func(c *Cluster) {
		const ttl = 5 * time.Second
		f1, f2, ctx := c.Forwarders[0], c.Forwarders[1], context.Background()
		r1, err := c.plainTake(ctx, f1, "o", "", ttl)
		c.must("acquire", err)
		r2, err := c.plainTake(ctx, f2, "o", "", ttl)
		c.must("acquire again", err)
		token := plainToken(r1)
		if token == 0 || plainToken(r2) != token {
			c.Fatal("tokens %d and %d", token, plainToken(r2))
		}
		if r, _ := c.plainTake(ctx, f2, "p", "", ttl); r.GetCode() != command.Code_CODE_HELD {
			c.Fatal("another owner was told %v", r)
		}
		waits := func(m *Member, ctx context.Context, owner, request string, ttl time.Duration) <-chan uint64 {
			got := make(chan uint64, 1)
			before := c.waiters("x")
			go func() {
				r, _ := c.plainTake(ctx, m, owner, request, ttl)
				got <- plainToken(r)
			}()
			c.Wait(time.Second, owner+" waits", func() bool { return c.waiters("x") > before })
			return got
		}
		hung, hangUp := context.WithCancel(ctx)
		gone := waits(f1, hung, "q", "r2", time.Minute)
		next := waits(f2, ctx, "p", "r1", ttl)
		hangUp()
		if <-gone != 0 {
			c.Fatal("granted to who hung up")
		}
		c.Wait(time.Second, "the cancel of who hung up", func() bool { return c.waiters("x") == 1 })
		for range 10 {
			time.Sleep(time.Second)
			if got := plainToken(c.plain(f2, plainRenew("o", token, ttl))); got != token {
				c.Fatal("renewed with token %d", got)
			}
		}
		c.plain(f2, &command.Command{Kind: &command.Command_PlainRelease{PlainRelease: &command.PlainRelease{
			Owner: "o", Lock: "x", Token: token,
		}}})
		released := c.W.Now()
		if got := <-next; got <= token || c.W.Now()-released > time.Second {
			c.Fatal("granted with token %d after %v", got, c.W.Now()-released)
		}
		c.Wait(ttl+2*time.Second, "expiry of what nobody renews", func() bool { return c.token("x") == 0 })
	})
}

// A renewal is applied between the proposal of an expiry and its turn in the
// log, in an earlier round or in the same one: the end is withdrawn.
func TestStoryRenewalOvertakesExpiry(t *testing.T) {
	const ttl = time.Second
	for name, sameRound := range map[string]bool{"an earlier round": false, "the same round": true} {
		t.Run(name, func(t *testing.T) {
			story(t, func(c *Cluster) {
				f1, f2 := c.Forwarders[0], c.Forwarders[1]
				agent := c.linked("raw")
				defer agent.Close()
				r, err := c.plainTake(context.Background(), f1, "o", "", ttl)
				c.must("acquire", err)
				token := plainToken(r)
				if token == 0 {
					c.Fatal("acquire: %v", r)
				}
				at := c.holding(agent, 1, ttl, "y")
				time.Sleep(700 * time.Millisecond)
				c.Leader().Host.Disk.Stall(ttl)
				if sameRound {
					agent.Send(AcquireFor(2, 1, 1, "nothing")) // the round that all have to wait for
					time.Sleep(20 * time.Millisecond)
				}
				renewed := make(chan *command.Result, 1)
				go func() { renewed <- c.plain(f2, plainRenew("o", token, ttl)) }()
				set := &command.Command{Session: rawSession(1), Attachment: at, Seq: 3,
					Kind: &command.Command_SetTtl{SetTtl: &command.SetTTL{TtlNanos: uint64(2 * ttl)}}}
				id := agent.Send(set)[0]
				if got := plainToken(<-renewed); got != token {
					c.Fatal("not renewed: token %d", got)
				}
				_, err = agent.Answer(id, ttl)
				c.must("change of TTL", err)
				time.Sleep(ttl / 2)
				if c.token("x") != token || c.token("y") == 0 {
					c.Fatal("ended after it was renewed: tokens %d and %d", c.token("x"), c.token("y"))
				}
				c.Wait(3*ttl, "both expire in the end", func() bool { return c.token("x") == 0 && c.token("y") == 0 })
			})
		})
	}
}
