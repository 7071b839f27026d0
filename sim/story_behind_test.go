package sim

import (
	"context"
	"testing"
	"time"

	api "github.com/raftlock/raftlock/api/raftlock/v1"
)

// A voter whose disk is slow for a while reaches the leader all the time and
// serves its applications; but it has not caught up, and says so until it has.
// Nobody else says it: the others are not behind, and a forwarder has no log.
func TestStoryVoterCatchesUp(t *testing.T) {
	story(t, func(c *Cluster) {
		c.waitReach(c.Forwarders[0], api.Reason_REASON_OK, 10*time.Second)
		l := c.Leader()
		slow := c.Voters[0]
		if slow == l {
			slow = c.Voters[1]
		}
		c.waitReach(slow, api.Reason_REASON_OK, 10*time.Second)
		slow.Host.Disk.Stall(20 * time.Second)
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		for n := 0; slow.Agent().Behind() == 0; n++ {
			if n == 3000 {
				c.Fatal("it is %d of %d, and says nothing", slow.Agent().Node().AppliedIndex(), l.Agent().Node().AppliedIndex())
			}
			_, err := c.plainTake(ctx, c.Forwarders[0], "me", "", time.Minute)
			c.must("a renewal", err)
		}
		if got := slow.Agent().Reach(); got != api.Reason_REASON_OK {
			c.Fatal("a voter that catches up reaches %v", got)
		}
		for _, m := range c.Members() {
			if n := m.Agent().Behind(); (n > 0) != (m == slow) {
				c.Fatal("%s is %d behind", m.Host.Name, n)
			}
		}
		c.Wait(time.Minute, "it has caught up", func() bool { return slow.Agent().Behind() == 0 })
		lacks := l.Agent().Node().AppliedIndex() - slow.Agent().Node().AppliedIndex()
		if lacks > 1000 || slow.Agent().Reach() != api.Reason_REASON_OK {
			c.Fatal("it says to have caught up, lacks %d and reaches %v", lacks, slow.Agent().Reach())
		}
	})
}
