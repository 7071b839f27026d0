package sim

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/raftlock/raftlock/consensus"
	raftlock "github.com/raftlock/raftlock/sdk/go"
)

// Schedule is one random run: applications, plain callers and readers that
// hammer few locks while faults are drawn from the seed. What it exercised is
// counted.
type Schedule struct {
	c   *Cluster
	rng *rand.Rand

	// Faults counts the faults injected, by name.
	Faults map[string]int
	hellos atomic.Int64
	aim    atomic.Pointer[aim]

	workers sync.WaitGroup
	stop    context.Context // ends with the work
	halt    context.CancelFunc
	lasts   sync.WaitGroup  // faults that last
	peace   context.Context // ends with the faults
	calm    context.CancelFunc
	names   atomic.Int64
}

// How a schedule is built. Few locks and many who want them: contention is what
// finds bugs.
const (
	scheduleApps   = 7
	scheduleLocks  = 2
	scheduleFaults = 14
	faultGapMax    = 4 * time.Second
	// Now and then there is time for the cluster to have no excuse.
	calmGap = 9 * time.Second
	// What the work may take to end: an unlock's patience and a close's.
	haltMax = time.Minute
	// Longest lease of a schedule's sessions, for the wait that looks for leaks.
	scheduleTTLMax = 8 * time.Second
)

var scheduleTTLs = []time.Duration{600 * time.Millisecond, 1500 * time.Millisecond, 4 * time.Second, scheduleTTLMax}

// ScheduleConfig is the cluster of a schedule: small snapshots, so that logs
// are cut while somebody is away.
func ScheduleConfig() ClusterConfig {
	return ClusterConfig{Voters: 5, Forwarders: 2, Consensus: func(cfg *consensus.Config) {
		cfg.SnapshotInterval, cfg.SnapshotThreshold, cfg.TrailingLogs = 3*time.Second, 60, 30
	}}
}

// RunSchedule runs one schedule on a fresh cluster and checks everything.
func RunSchedule(c *Cluster) *Schedule {
	s := &Schedule{c: c, rng: c.W.Rand("schedule"), Faults: make(map[string]int)}
	s.stop, s.halt = context.WithCancel(context.Background())
	s.peace, s.calm = context.WithCancel(context.Background())
	c.W.OnFrame(s.frame)
	for _, m := range c.Members() {
		s.skew(m)
	}
	c.WaitLeader(2 * time.Minute)
	c.Checks.judgeCalm()
	s.begin()
	time.Sleep(3 * time.Second)
	s.fault("crash leader")
	for range scheduleFaults {
		time.Sleep(time.Duration(s.rng.Int64N(int64(faultGapMax))))
		if s.rng.IntN(10) == 0 {
			time.Sleep(calmGap)
		}
		s.fault(faultNames[s.rng.IntN(len(faultNames))])
	}
	time.Sleep(faultGapMax)
	s.heal()
	c.WaitLeader(time.Minute)
	s.workInPeace()
	s.halt()
	s.await()
	c.Settled(6 * scheduleTTLMax)
	c.Checks.Now()
	return s
}

// workInPeace gives everybody a turn, but one who is stopped: nobody is to vouch
// for it.
func (s *Schedule) workInPeace() {
	apps := s.alive(nil)
	if len(apps) == 0 {
		time.Sleep(calmGap)
		return
	}
	a := one(s.rng, apps)
	a.Stop()
	time.Sleep(calmGap)
	s.c.Checks.continued(a, calmGap)
	a.Continue()
}

// begin starts everybody who works until the schedule halts.
func (s *Schedule) begin() {
	for range scheduleApps {
		s.employ()
	}
	for n, owner := range []string{"alone", "shared", "shared"} {
		s.workers.Go(func() { s.plainly(owner, n) })
	}
	for n := range 2 {
		s.workers.Go(func() { s.read(n) })
	}
	s.workers.Go(func() {
		for s.stop.Err() == nil {
			s.c.Checks.Now()
			time.Sleep(100 * time.Millisecond)
		}
	})
}

// await waits for the workers: every call ends.
func (s *Schedule) await() {
	ended := make(chan struct{})
	go func() { s.workers.Wait(); close(ended) }()
	select {
	case <-ended:
	case <-time.After(haltMax):
		stacks := make([]byte, 1<<20)
		s.c.W.Fail("some calls do not end\n%s", stacks[:runtime.Stack(stacks, true)])
	}
}

// Counts reports whether the schedule exercised what one must: an election
// under load, a re-link, a hand-off, and an expiry or a resume.
func (s *Schedule) Counts() bool {
	k := s.c.Checks
	return k.Count("elections") > 1 && k.Count("links") > len(s.c.Members()) &&
		k.Count("handed off") > 0 && k.Count("expired")+k.Count("resumed") > 0
}

// employ starts one application that works until the schedule halts. If it is
// killed, another takes its place.
func (s *Schedule) employ() {
	name := fmt.Sprintf("app%d", s.names.Add(1))
	rng := s.c.W.Rand("worker/" + name)
	members := s.c.Members()
	a := s.c.StartApp(members[rng.IntN(len(members))], name)
	s.workers.Go(func() {
		s.work(a, rng)
		if s.stop.Err() == nil {
			s.employ()
		}
	})
}

func (s *Schedule) work(a *App, rng *rand.Rand) {
	for s.stop.Err() == nil && a.Alive() {
		ctx, cancel := context.WithTimeout(s.stop, 20*time.Second)
		err := a.Open(ctx, scheduleTTLs[rng.IntN(len(scheduleTTLs))])
		cancel()
		if err != nil {
			s.pause(rng, time.Second)
			continue
		}
		// Sometimes two goroutines share the session, sometimes it is a short one.
		turns := 1 << rng.IntN(8)
		var lanes sync.WaitGroup
		for lane := range 1 + rng.IntN(2) {
			own := s.c.W.Rand(fmt.Sprintf("worker/%s/%d/%d", a.Name, turns, lane))
			lanes.Go(func() {
				for i := 0; i < turns && s.stop.Err() == nil && a.Alive() && a.Session().Err() == nil; i++ {
					s.step(a, own)
				}
			})
		}
		lanes.Wait()
		s.close(a)
	}
}

// close ends the worker's session with a bound, so that one that cannot be
// reached ends by its lease.
func (s *Schedule) close(a *App) {
	if err := a.Session().Err(); err != nil && a.Alive() {
		s.c.Checks.count("ended: " + reasonOf(err))
	}
	ctx, cancel := a.within(context.Background())
	defer cancel()
	ctx, done := context.WithTimeout(ctx, 20*time.Second)
	defer done()
	_ = a.Session().Close(ctx)
}

// step is one thing an application does.
func (s *Schedule) step(a *App, rng *rand.Rand) {
	lock := s.lockName(rng)
	patience := 100*time.Millisecond + time.Duration(rng.Int64N(int64(8*time.Second)))
	p := rng.IntN(24)
	switch {
	case p == 0:
		ctx, cancel := context.WithTimeout(s.stop, patience)
		_ = a.SetTTL(ctx, scheduleTTLs[rng.IntN(len(scheduleTTLs))])
		cancel()
		return
	case p < 3: // its cancel may overtake it
		patience = time.Duration(rng.IntN(20)) * time.Millisecond
	case p < 6: // in step with others
		const step = 500 * time.Millisecond
		time.Sleep(step - s.c.W.Now()%step)
	}
	ctx, cancel := context.WithTimeout(s.stop, patience)
	defer cancel()
	var h *Handle
	var err error
	if p%5 == 0 {
		h, err = a.TryLock(ctx, lock)
	} else {
		h, err = a.Lock(ctx, lock, raftlock.WithPriority(int32(rng.IntN(2))))
	}
	if err != nil {
		s.failed(a, ctx, err)
		s.pause(rng, 200*time.Millisecond)
		return
	}
	s.c.Checks.count("handles")
	s.hold(h, rng)
}

// failed judges an acquire's error: a call that has time left and a session
// that lives has few reasons to fail.
func (s *Schedule) failed(a *App, ctx context.Context, err error) {
	switch {
	case ctx.Err() != nil, !a.Alive(), errors.Is(err, raftlock.ErrHeld), errors.Is(err, raftlock.ErrSessionEnded):
	default:
		s.c.Checks.count("failed: " + reasonOf(err))
	}
}

// hold works under the lock, then gives it up; sometimes late.
func (s *Schedule) hold(h *Handle, rng *rand.Rand) {
	most := time.Duration(rng.IntN(3)) * 500 * time.Millisecond
	s.pause(rng, most+time.Millisecond)
	if rng.IntN(8) == 0 {
		s.pause(rng, 5*time.Second)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := h.Unlock(ctx); errors.Is(err, raftlock.ErrLost) {
		s.c.Checks.count("lost")
	}
}

func (s *Schedule) pause(rng *rand.Rand, most time.Duration) {
	select {
	case <-time.After(time.Duration(rng.Int64N(int64(most)))):
	case <-s.stop.Done():
	}
}

func (s *Schedule) lockName(rng *rand.Rand) string {
	return fmt.Sprintf("lock%d", rng.IntN(scheduleLocks))
}

// reasonOf names the reasons in an error, without what varies.
func reasonOf(err error) string {
	for _, known := range []error{
		raftlock.ErrExpired, raftlock.ErrSuperseded, raftlock.ErrRevoked, raftlock.ErrQueueFull, raftlock.ErrLimit,
		raftlock.ErrUsedUp, raftlock.ErrDenied, raftlock.ErrExists, raftlock.ErrLost, raftlock.ErrCancelled, raftlock.ErrSessionEnded,
	} {
		if errors.Is(err, known) {
			return known.Error()
		}
	}
	return err.Error()
}
