package sim

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	raftlock "github.com/raftlock/raftlock/sdk/go"
)

// Schedule is one random run: applications that hammer few locks while faults
// are drawn from the seed. What it exercised is counted.
type Schedule struct {
	c   *Cluster
	rng *rand.Rand

	// Faults counts the faults injected, by name.
	Faults map[string]int
	hellos atomic.Int64
	holds  atomic.Int64

	workers sync.WaitGroup
	stop    context.Context
	halt    context.CancelFunc
	names   atomic.Int64
}

// How a schedule is built. Few locks and many applications: contention is what
// finds bugs.
const (
	scheduleApps   = 7
	scheduleLocks  = 2
	scheduleFaults = 9
	faultGapMax    = 4 * time.Second
	// Longest lease of a schedule's sessions, for the wait that looks for leaks.
	scheduleTTLMax = 8 * time.Second
)

var scheduleTTLs = []time.Duration{600 * time.Millisecond, 1500 * time.Millisecond, 4 * time.Second, scheduleTTLMax}

// RunSchedule runs one schedule on a fresh cluster and checks everything.
func RunSchedule(c *Cluster) *Schedule {
	s := &Schedule{c: c, rng: c.W.Rand("schedule"), Faults: make(map[string]int)}
	s.stop, s.halt = context.WithCancel(context.Background())
	c.W.OnFrame(func(f *Frame) Action {
		if f.Kind == "link-up/hello" {
			s.hellos.Add(1)
		}
		return Deliver
	})
	c.WaitLeader(2 * time.Minute)
	for range scheduleApps {
		s.employ()
	}
	time.Sleep(3 * time.Second)
	s.fault("crash leader")
	for range scheduleFaults {
		time.Sleep(time.Duration(s.rng.Int64N(int64(faultGapMax))))
		s.fault(faultNames[s.rng.IntN(len(faultNames))])
		c.Checks.Now()
	}
	time.Sleep(faultGapMax)
	s.heal()
	c.WaitLeader(time.Minute)
	time.Sleep(10 * time.Second) // work in peace: everybody gets a turn
	s.halt()
	s.workers.Wait()
	c.Settled(6 * scheduleTTLMax)
	c.Checks.Now()
	return s
}

// Counts reports whether the schedule exercised what one must: an election
// under load, a re-link, a hand-off, and an expiry or a resume.
func (s *Schedule) Counts() bool {
	members := int64(len(s.c.Members()))
	k := s.c.Checks
	return k.Count("elections") > 1 && s.hellos.Load() > members &&
		k.Count("handed off") > 0 && k.Count("expired")+k.Count("resumed") > 0
}

// employ starts one application that works until the schedule halts or it is
// killed.
func (s *Schedule) employ() {
	n := s.names.Add(1)
	name := fmt.Sprintf("app%d", n)
	rng := s.c.W.Rand("worker/" + name)
	members := s.c.Members()
	a := s.c.StartApp(members[rng.IntN(len(members))], name)
	s.workers.Go(func() { s.work(a, rng) })
}

func (s *Schedule) work(a *App, rng *rand.Rand) {
	for s.stop.Err() == nil && a.Alive() {
		ttl := scheduleTTLs[rng.IntN(len(scheduleTTLs))]
		ctx, cancel := context.WithTimeout(s.stop, 20*time.Second)
		err := a.Open(ctx, ttl)
		cancel()
		if err != nil {
			s.pause(rng, time.Second)
			continue
		}
		for s.stop.Err() == nil && a.Alive() && a.Session().Err() == nil {
			s.step(a, rng)
		}
		s.close(a)
	}
}

// close ends the worker's session with a bound, so that one that cannot be
// reached ends by its lease.
func (s *Schedule) close(a *App) {
	ctx, cancel := a.within(context.Background())
	defer cancel()
	ctx, done := context.WithTimeout(ctx, 20*time.Second)
	defer done()
	_ = a.Session().Close(ctx)
}

// step is one thing an application does.
func (s *Schedule) step(a *App, rng *rand.Rand) {
	lock := fmt.Sprintf("lock%d", rng.IntN(scheduleLocks))
	ctx, cancel := context.WithTimeout(s.stop, 100*time.Millisecond+time.Duration(rng.Int64N(int64(8*time.Second))))
	defer cancel()
	var h *Handle
	var err error
	switch p := rng.IntN(20); {
	case p == 0:
		set, done := a.within(ctx)
		_ = a.Session().SetTTL(set, scheduleTTLs[rng.IntN(len(scheduleTTLs))])
		done()
		return
	case p < 4:
		h, err = a.TryLock(ctx, lock)
	default:
		h, err = a.Lock(ctx, lock, raftlock.WithPriority(int32(rng.IntN(2))))
	}
	if err != nil {
		s.pause(rng, 200*time.Millisecond)
		return
	}
	s.holds.Add(1)
	s.hold(h, rng)
}

// hold works under the lock, then gives it up; sometimes late, sometimes never.
func (s *Schedule) hold(h *Handle, rng *rand.Rand) {
	s.pause(rng, time.Second)
	if rng.IntN(8) == 0 {
		s.pause(rng, 5*time.Second)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	_ = h.Unlock(ctx)
}

func (s *Schedule) pause(rng *rand.Rand, most time.Duration) {
	select {
	case <-time.After(time.Duration(rng.Int64N(int64(most)))):
	case <-s.stop.Done():
	}
}

// heal undoes every fault that lasts.
func (s *Schedule) heal() {
	s.c.W.Net.Heal()
	s.c.W.Net.SetLoss(0)
	for _, m := range s.c.Members() {
		m.Host.Resume()
		if !m.Host.Up() {
			m.Host.Restart()
		}
	}
}
