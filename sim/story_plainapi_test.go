package sim

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/raftlock/raftlock/agent"
	api "github.com/raftlock/raftlock/api/raftlock/v1"
	"github.com/raftlock/raftlock/fsm/command"
)

// plainAPI is the application socket of a member, for callers without sessions.
func (c *Cluster) plainAPI(m *Member) *agent.API {
	return agent.NewAPI(m.Agent(), agent.APIConfig{
		Identity: func(context.Context) (string, bool) { return "uid:1000", true },
		Log:      slog.New(slog.DiscardHandler),
	})
}

func plainFor(owner string, ttl, wait time.Duration) *api.AcquireRequest {
	q := &api.AcquireRequest{Lock: "x", Owner: owner, TtlNanos: proto.Uint64(uint64(ttl))}
	if wait > 0 {
		q.WaitNanos = proto.Uint64(uint64(wait))
	}
	return q
}

// refusedFor fails the run unless err has that reason and effect.
func (c *Cluster) refusedFor(what string, err error, reason, applied string) *errdetails.ErrorInfo {
	for _, d := range status.Convert(err).Details() {
		if i, ok := d.(*errdetails.ErrorInfo); ok && i.Reason == reason && i.Metadata["applied"] == applied {
			return i
		}
	}
	c.Fatal("%s: %v, not %s with applied: %s", what, status.Convert(err).Proto(), reason, applied)
	return nil
}

// What callers without a session are told, through two agents of one owner.
func TestStoryPlainAPI(t *testing.T) {
	story(t, func(c *Cluster) {
		const ttl = 10 * time.Second
		ctx := context.Background()
		f1, f2 := c.Forwarders[0], c.Forwarders[1]
		a, b := c.plainAPI(f1), c.plainAPI(f2)
		before := f1.Host.Clock()()
		r, err := a.Acquire(ctx, plainFor("o", ttl, 0))
		c.must("acquire", err)
		token := r.Lock.Token
		if v := time.Duration(r.Lock.DeadlineNanos); v < before+ttl*98/100 || v > f1.Host.Clock()()+ttl*98/100 {
			c.Fatal("V is %v after the request", v-before)
		}
		r2, err := b.Acquire(ctx, plainFor("o", ttl/2, 0))
		c.must("acquire elsewhere, for less", err)
		if r2.Lock.Token != token || time.Duration(r2.Lock.TtlNanos) != ttl {
			c.Fatal("answered %v", r2.Lock)
		}
		_, err = b.Acquire(ctx, plainFor("p", ttl, 0))
		if i := c.refusedFor("held", err, "HELD", "no"); i.Metadata["holder_owner"] != "o" || i.Metadata["holder_token"] != number(token) {
			c.Fatal("the holder is told as %v", i.Metadata)
		}
		got, err := b.Get(ctx, &api.GetRequest{Lock: "x"})
		c.must("get", err)
		if left := time.Duration(got.Lock.GetLeaseLeftNanos()); left < ttl/2 || left > ttl*102/100 || len(got.Lock.Holder.Session) != 0 {
			c.Fatal("read %v", got.Lock)
		}
		n, err := b.Renew(ctx, &api.RenewRequest{Lock: "x", Owner: "o", TtlNanos: proto.Uint64(uint64(2 * ttl))})
		c.must("renew", err)
		if n.Lock.Token != token || time.Duration(n.Lock.TtlNanos) != 2*ttl {
			c.Fatal("renewed %v", n.Lock)
		}
		_, err = a.Renew(ctx, &api.RenewRequest{Lock: "x", Owner: "p"})
		c.refusedFor("renewed by another", err, "NOT_OWNER", "no")
		_, err = a.Renew(ctx, &api.RenewRequest{Lock: "x", Owner: "o", Token: token + 1})
		c.refusedFor("renewed with another token", err, "STALE_TOKEN", "no")
		l, err := a.Release(ctx, &api.ReleaseRequest{Lock: "x", Owner: "o", Token: token})
		c.must("release", err)
		if l.Lock.Token != token || time.Duration(l.Lock.TtlNanos) != 2*ttl || l.Lock.DeadlineNanos != 0 {
			c.Fatal("released %v", l.Lock)
		}
		_, err = b.Release(ctx, &api.ReleaseRequest{Lock: "x", Owner: "o"})
		c.refusedFor("released again", err, "NOT_HELD", "no")
	})
}

// A wait whose time is over is answered HELD when nothing is left of it, and
// unknown when nobody can say so; then too nothing is left of it in the end.
func TestStoryPlainWaitIsOver(t *testing.T) {
	story(t, func(c *Cluster) {
		ctx := context.Background()
		a, b := c.plainAPI(c.Forwarders[0]), c.plainAPI(c.Forwarders[1])
		_, err := a.Acquire(ctx, plainFor("o", time.Minute, 0))
		c.must("acquire", err)
		began := c.W.Now()
		_, err = b.Acquire(ctx, plainFor("p", 30*time.Second, 2*time.Second))
		c.refusedFor("the wait is over", err, "HELD", "no")
		if text := status.Convert(err).Message(); !strings.HasSuffix(text, "; try again later, or wait longer") {
			c.Fatal("who has waited is told: %s", text)
		}
		if took := c.W.Now() - began; took < 2*time.Second || took > 3*time.Second || c.waiters("x") != 0 {
			c.Fatal("told after %v, with %d waiters left", took, c.waiters("x"))
		}
		var alone [][]*Host
		for _, m := range c.Voters {
			alone = append(alone, []*Host{m.Host})
		}
		told := make(chan error, 1)
		go func() {
			_, err := b.Acquire(ctx, plainFor("p", 30*time.Second, 3*time.Second))
			told <- err
		}()
		c.Wait(time.Second, "p waits", func() bool { return c.waiters("x") == 1 })
		c.W.Net.Partition(alone...)
		c.refusedFor("nobody knows", <-told, "NO_QUORUM", "unknown")
		c.W.Net.Heal()
		c.Wait(20*time.Second, "the cancel is applied", func() bool { return c.token("x") != 0 && c.waiters("x") == 0 })
		_, err = a.Release(ctx, &api.ReleaseRequest{Lock: "x", Owner: "o"})
		c.must("release", err)
		if c.token("x") != 0 {
			c.Fatal("granted to who was told nothing")
		}
	})
}

// A plain hold that is wanted back is not renewed, and nobody is told that it
// holds beyond what it was told before.
func TestStoryPlainRevoked(t *testing.T) {
	story(t, func(c *Cluster) {
		const ttl = 5 * time.Second
		ctx := context.Background()
		m := c.Forwarders[0]
		a := c.plainAPI(m)
		r, err := a.Acquire(ctx, plainFor("o", ttl, 0))
		c.must("acquire", err)
		c.plain(m, &command.Command{Kind: &command.Command_Revoke{Revoke: &command.Revoke{Lock: "x", Token: r.Lock.Token, By: "test"}}})
		_, err = a.Acquire(ctx, plainFor("o", ttl, 0))
		c.refusedFor("acquired again", err, "REVOKED", "no")
		_, err = a.Renew(ctx, &api.RenewRequest{Lock: "x", Owner: "o"})
		c.refusedFor("renewed", err, "REVOKED", "no")
		next, err := c.plainAPI(c.Forwarders[1]).Acquire(ctx, plainFor("p", ttl, time.Minute))
		c.must("acquire after it", err)
		if now := m.Host.Clock()(); now < time.Duration(r.Lock.DeadlineNanos) || next.Lock.Token <= r.Lock.Token {
			c.Fatal("granted %v before V, with token %d after %d", time.Duration(r.Lock.DeadlineNanos)-now, next.Lock.Token, r.Lock.Token)
		}
	})
}
