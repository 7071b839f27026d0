package sim

import (
	"context"
	"testing"
	"time"

	api "github.com/raftlock/raftlock/api/raftlock/v1"
)

// Two of five voters are left: a forwarder, which has no replica, still tells who
// held a lock, and says that it may be old. Nothing is told as linearizable.
func TestStoryStaleReadAtAForwarder(t *testing.T) {
	story(t, func(c *Cluster) {
		ctx := context.Background()
		f := c.Forwarders[0]
		s := c.plainAPI(f)
		r, err := s.Acquire(ctx, plainFor("o", time.Minute, 0))
		c.must("acquire", err)
		time.Sleep(time.Second) // until every replica has it
		for _, m := range c.Voters[:3] {
			m.Host.PowerOff()
		}
		began := time.Now()
		got, err := s.Get(ctx, &api.GetRequest{Lock: "x", Stale: true})
		c.must("stale get", err)
		if !got.Stale || got.Lock.Holder.GetToken() != r.Lock.Token || got.Lock.LeaseLeftNanos != nil {
			c.Fatal("told %v", got)
		}
		list, err := s.List(ctx, &api.ListRequest{Stale: true})
		c.must("stale list", err)
		if !list.Stale || len(list.Locks) != 1 || list.Locks[0].Name != "x" {
			c.Fatal("told %v", list)
		}
		if took := time.Since(began); took > 6*time.Second {
			c.Fatal("it took %v", took)
		}
		short, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		if got, err := s.Get(short, &api.GetRequest{Lock: "x"}); err == nil {
			c.Fatal("without a quorum told %v", got)
		}
		for _, m := range c.Voters[3:] {
			m.Host.PowerOff()
		}
		_, err = s.Get(ctx, &api.GetRequest{Lock: "x", Stale: true})
		c.refusedFor("nobody is left", err, "NO_QUORUM", "no")
	})
}
