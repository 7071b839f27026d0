package sim

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/raftlock/raftlock/agent/session"
	api "github.com/raftlock/raftlock/api/raftlock/v1"
	"github.com/raftlock/raftlock/fsm/command"
)

// reaches are all that an application was told of its agent's reach.
func (r *RawApp) reaches() (out []api.Reason) {
	for _, m := range r.Got() {
		if m.GetReach() != nil {
			out = append(out, m.GetReach().Reason)
		}
	}
	return out
}

func (c *Cluster) waitReach(m *Member, want api.Reason, within time.Duration) {
	c.Wait(within, m.Host.Name+" reaches "+want.String(), func() bool { return m.Agent().Reach() == want })
}

// The leader dies: until the next one leads there is none, and there is a
// quorum all the time.
func TestStoryReachThroughAnElection(t *testing.T) {
	story(t, func(c *Cluster) {
		f1 := c.Forwarders[0]
		c.waitReach(f1, api.Reason_REASON_OK, 10*time.Second)
		a := c.attach(f1, "a", 10*time.Second)
		if got := a.reaches(); len(got) != 0 {
			c.Fatal("told %v, and a leader is reached", got)
		}
		for range 3 {
			old := c.Leader().Host
			old.Crash()
			time.Sleep(100 * time.Millisecond)
			c.WaitLeader(time.Minute)
			c.waitReach(f1, api.Reason_REASON_OK, 10*time.Second)
			old.Restart()
			time.Sleep(5 * time.Second)
		}
		got := a.reaches()
		if len(got) < 2 || got[len(got)-1] != api.Reason_REASON_OK {
			c.Fatal("told %v", got)
		}
		for _, r := range got {
			if r == api.Reason_REASON_NO_QUORUM {
				c.Fatal("told %v, and there was a quorum all the time", got)
			}
		}
	})
}

// Three of five voters are gone. Everybody says so: to streams that are there,
// to one whose open is not answered, to callers that give up; and a forwarder
// that was started since, and sees two voters alone.
func TestStoryReachWithoutAQuorum(t *testing.T) {
	for name, gone := range map[string]func(*Cluster, *Member){
		"crashed":     func(_ *Cluster, m *Member) { m.Host.Crash() },
		"cut off":     func(c *Cluster, m *Member) { c.W.Net.Isolate(m.Host) },
		"powered off": func(_ *Cluster, m *Member) { m.Host.PowerOff() },
	} {
		t.Run(name, func(t *testing.T) {
			story(t, func(c *Cluster) {
				f1, f2 := c.Forwarders[0], c.Forwarders[1]
				a := c.attach(f1, "a", 3*time.Second)
				l := c.Leader()
				lost := []*Member{l}
				for _, m := range c.Voters {
					if m != l && len(lost) < 3 {
						lost = append(lost, m)
					}
				}
				for _, m := range lost {
					gone(c, m)
				}
				f2.Host.Restart()
				for _, m := range []*Member{f1, f2} {
					c.waitReach(m, api.Reason_REASON_NO_QUORUM, 5*time.Second)
				}
				b := c.StartRaw(f2, "b")
				b.SendOpen(1, 3*time.Second)
				time.Sleep(time.Second)
				for _, x := range []*RawApp{a, b} {
					if got := x.reaches(); len(got) == 0 || got[len(got)-1] != api.Reason_REASON_NO_QUORUM {
						c.Fatal("%s was told %v", x.Name, got)
					}
				}
				ctx, cancel := context.WithTimeout(context.Background(), time.Second)
				_, err := f1.Agent().Sessions().Propose(ctx, &command.Command{Kind: &command.Command_Revoke{Revoke: &command.Revoke{Lock: "x"}}})
				cancel()
				if !errors.Is(err, session.ErrNoQuorum) || !errors.Is(err, session.ErrNotSent) && !errors.Is(err, session.ErrUnknown) {
					c.Fatal("a call failed with %v", err)
				}
				c.W.Net.Heal()
				for _, m := range lost {
					if !m.Host.Up() {
						m.Host.Restart()
					}
				}
				for _, m := range []*Member{f1, f2} {
					c.waitReach(m, api.Reason_REASON_OK, time.Minute)
				}
				_, err = b.Await(5*time.Second, Attached(1))
				c.must("the open", err)
			})
		})
	}
}

// A forwarder is started where it sees nobody: that is no quorum, not a leader
// to be waited for.
func TestStoryReachOfALonelyForwarder(t *testing.T) {
	story(t, func(c *Cluster) {
		f1 := c.Forwarders[0]
		c.waitReach(f1, api.Reason_REASON_OK, 10*time.Second)
		for _, m := range c.Members() {
			if m != f1 {
				c.Pool.Hide(f1.Host, m.Host, true)
			}
		}
		f1.Host.Restart()
		if f1.Agent().Reach() != api.Reason_REASON_NO_LEADER {
			c.Fatal("starts with %v", f1.Agent().Reach())
		}
		c.waitReach(f1, api.Reason_REASON_NO_QUORUM, 5*time.Second)
		for _, m := range c.Members() {
			c.Pool.Hide(f1.Host, m.Host, false)
		}
		c.waitReach(f1, api.Reason_REASON_OK, 5*time.Second)
	})
}

// The leader's answers stop and no connection breaks, while the agent has no
// session: who comes then does not wait for as long as the link's patience
// with a session.
func TestStoryHungLinkOfAnIdleAgent(t *testing.T) {
	story(t, func(c *Cluster) {
		f1 := c.Forwarders[0]
		c.waitReach(f1, api.Reason_REASON_OK, 10*time.Second)
		old, _, _, linked := f1.Agent().LeaderLink()
		if !linked {
			c.Fatal("no link")
		}
		c.Leader().Host.PowerOff()
		c.Wait(5*time.Second, "a link to another leader", func() bool {
			now, _, _, linked := f1.Agent().LeaderLink()
			return linked && now != old
		})
	})
}
