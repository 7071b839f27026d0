package sim

import (
	"context"
	"time"
)

// faultNames are the faults a schedule draws from; some are named twice to
// come twice as often.
var faultNames = []string{
	"crash leader", "crash leader", "crash voter", "crash forwarder", "crash two voters", "restart all",
	"partition", "partition", "isolate leader", "one-way cut", "heartbeats only", "pause leader", "pause host", "pause host",
	"loss", "heal", "kill app", "kill app", "break stream", "break stream", "clock rate", "stall disk", "transfer", "snapshot-lag",
}

// fault injects one fault. What lasts ends by itself after a while.
func (s *Schedule) fault(name string) {
	c, w := s.c, s.c.W
	s.Faults[name]++
	w.Logf("fault: %s", name)
	lasting := func(undo func()) {
		d := 500*time.Millisecond + time.Duration(s.rng.Int64N(int64(6*time.Second)))
		s.workers.Go(func() { time.Sleep(d); undo() })
	}
	voter := func() *Member { return c.Voters[s.rng.IntN(len(c.Voters))] }
	member := func() *Member { m := c.Members(); return m[s.rng.IntN(len(m))] }
	leader := func() *Member {
		if l := c.Leader(); l != nil {
			return l
		}
		return voter()
	}
	switch name {
	case "crash leader":
		s.crash(leader())
	case "crash voter":
		s.crash(voter())
	case "crash forwarder":
		s.crash(c.Forwarders[s.rng.IntN(len(c.Forwarders))])
	case "crash two voters":
		s.crash(leader())
		s.crash(voter())
	case "restart all":
		for _, m := range c.Members() {
			s.crash(m)
		}
	case "partition":
		var left, right []*Host
		for _, m := range c.Members() {
			if s.rng.IntN(2) == 0 {
				left = append(left, m.Host)
			} else {
				right = append(right, m.Host)
			}
		}
		w.Net.Partition(left, right)
		lasting(w.Net.Heal)
	case "isolate leader":
		w.Net.Isolate(leader().Host)
		lasting(w.Net.Heal)
	case "one-way cut":
		a, b := member(), member()
		if a != b {
			w.Net.Cut(a.Host, b.Host)
			lasting(w.Net.Heal)
		}
	case "heartbeats only":
		w.Net.HeartbeatsOnly(leader().Host)
		lasting(w.Net.Heal)
	case "pause leader":
		h := leader().Host
		h.Pause()
		lasting(h.Resume)
	case "pause host":
		h := member().Host
		h.Pause()
		lasting(h.Resume)
	case "loss":
		w.Net.SetLoss(0.05)
		lasting(func() { w.Net.SetLoss(0) })
	case "heal":
		w.Net.Heal()
	case "kill app":
		s.killOne()
	case "break stream":
		apps := c.Apps()
		apps[s.rng.IntN(len(apps))].Break()
	case "clock rate":
		member().Host.SetRate(0.99 + 0.02*s.rng.Float64())
	case "stall disk":
		member().Host.Disk.Stall(time.Duration(s.rng.Int64N(int64(3 * time.Second))))
	case "transfer":
		s.transfer(leader())
	case "snapshot-lag":
		// A voter away for long enough comes back to a log that was cut.
		m := voter()
		m.Host.Crash()
		m.Host.RestartAfter(6 * time.Second)
	}
}

func (s *Schedule) crash(m *Member) {
	if !m.Host.Up() {
		return
	}
	m.Host.Crash()
	m.Host.RestartAfter(100*time.Millisecond + time.Duration(s.rng.Int64N(int64(4*time.Second))))
}

// killOne kills a living application, and another takes its place.
func (s *Schedule) killOne() {
	var alive []*App
	for _, a := range s.c.Apps() {
		if a.Alive() {
			alive = append(alive, a)
		}
	}
	if len(alive) > 0 {
		alive[s.rng.IntN(len(alive))].Kill()
	}
	s.employ()
}

// transfer moves leadership on, in the background: a hung one takes its time.
func (s *Schedule) transfer(m *Member) {
	a := m.Agent()
	if a == nil || a.Node() == nil {
		return
	}
	node := a.Node()
	s.workers.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = node.Transfer(ctx, "", "")
	})
}
