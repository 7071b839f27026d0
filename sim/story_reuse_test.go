package sim

import (
	"testing"
	"time"

	"github.com/raftlock/raftlock/fsm/command"
)

// A voter's address goes to another voter, on the side of a leader that was cut
// off with too few: Raft, which does not look whom it talks to, would count
// that one twice, and the minority would commit.
func TestStoryAddressReusedCommits(t *testing.T) {
	story(t, func(c *Cluster) {
		old := c.Leader()
		agent := c.linked("raw")
		defer agent.Close()
		at := c.result(agent, agent.Open(1, 1, time.Minute)).Attachment
		var others []*Member
		for _, m := range c.Voters {
			if m != old {
				others = append(others, m)
			}
		}
		c.W.Net.Partition([]*Host{old.Host, others[0].Host, agent.host})
		c.W.MoveAddr(others[1].Host.Addr(), others[0].Host)
		id := agent.Send(AcquireFor(1, at, 2, "x"))[0]
		c.Wait(time.Minute, "another leader", func() bool { l := c.Leader(); return l != nil && l != old })
		if a, err := agent.Answer(id, 20*time.Second); err == nil && a.GetResult().GetCode() == command.Code_CODE_OK {
			c.Fatal("a minority committed: %v", a)
		}
		if old.Agent().Leading() {
			c.Fatal("leads on with two of five")
		}
	})
}
