package processes

import (
	"testing"
	"time"

	// So that go test knows that a kept result is of no use after the agent
	// changed: what is run here is built from it.
	_ "github.com/raftlock/raftlock/agent/daemon"
)

// Nine fresh agents that know nothing but addresses and --expect 5 make one
// cluster of five voters.
func TestFreshAgentsFormOneCluster(t *testing.T) {
	t.Parallel()
	var took []time.Duration
	for range trials(t, 1) {
		t.Run("nine", func(t *testing.T) {
			c := newCluster(t, plan{agents: 9, expect: 5})
			program(t, agentProgram)
			began := clock()
			for _, a := range c.agents {
				a.start()
			}
			c.whole(formTime, 5)
			took = append(took, clock()-began)
			voters := len(c.roles().voters) + 1
			if voters != 5 {
				t.Errorf("%d voters, not 5", voters)
			}
		})
	}
	figure(t, "nine fresh agents serve one cluster of five voters after %s", spread(took))
}

// Forwarders that come back and see none of the voters are as many as would
// make a cluster, and must not.
func TestForwardersAloneFoundNothing(t *testing.T) {
	t.Parallel()
	c := formed(t, plan{agents: 10, expect: 5, apart: true})
	var cut []int
	forwarders := c.roles().forwarders
	for _, a := range forwarders {
		cut = append(cut, a.index)
	}
	c.net.split(t, cut)
	for _, a := range forwarders {
		a.proc.kill()
	}
	for _, a := range forwarders {
		a.start()
	}
	// A first start takes 3 s of a still view; the cluster above took twice that.
	for over := clock() + 8*time.Second; clock() < over; pass(200 * time.Millisecond) {
		for _, a := range forwarders {
			st, err := a.status()
			if err != nil {
				continue // it is not up yet
			}
			if st.ClusterID != "" && st.ClusterID != c.id {
				t.Fatalf("%s is of the new cluster %s; the old one is %s", a.name, st.ClusterID, c.id)
			}
			for _, node := range st.Nodes {
				if node.Role == "voter" && node.Alive {
					t.Fatalf("%s, cut off, sees the voter %s alive", a.name, node.Name)
				}
			}
		}
	}
	for _, a := range forwarders {
		st, err := a.status()
		if err != nil {
			t.Fatalf("%s does not serve its socket: %v", a.name, err)
		}
		if st.HasQuorum {
			t.Errorf("%s, cut off, says that a leader proved to lead", a.name)
		}
	}
	c.net.heal(t)
	c.whole(2*formTime, 5)
}
