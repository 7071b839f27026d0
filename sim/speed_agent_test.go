package sim

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// working runs a quiet cluster of agents: five voters, two forwarders, four
// applications that keep a lock each, five acquires and releases a second.
func working(t *testing.T, virtual time.Duration) {
	synctest.Test(t, func(t *testing.T) {
		c := NewCluster(New(t, 1), ClusterConfig{Voters: 5, Forwarders: 2})
		defer c.Close()
		c.WaitLeader(2 * time.Minute)
		var apps []*App
		for i, m := range c.Members()[:4] {
			a := c.open(m, m.Host.Name, 10*time.Second)
			c.lock(a, "own"+number(uint64(i)))
			apps = append(apps, a)
		}
		for i := 0; c.W.Now() < virtual; i++ {
			h := c.lock(apps[i%len(apps)], "shared")
			c.must("unlock", h.Unlock(context.Background()))
			time.Sleep(200 * time.Millisecond)
		}
	})
}

// TestSpeedOfAgents prints how much life of a cluster a second of a processor
// is worth, and guards against its falling by an order of magnitude.
func TestSpeedOfAgents(t *testing.T) {
	const virtual = 200 * time.Second
	used := processorTime(t)
	working(t, virtual)
	used = processorTime(t) - used
	rate := virtual.Seconds() / used.Seconds()
	t.Logf("agents: %.0f virtual seconds a processor second", rate)

	used = processorTime(t)
	runSchedule(t, 1, newTotals())
	used = processorTime(t) - used
	t.Logf("schedules: %.0f a processor minute", time.Minute.Seconds()/used.Seconds())
	if rate < 15 {
		t.Errorf("only %.0f virtual seconds of agents a processor second", rate)
	}
}
