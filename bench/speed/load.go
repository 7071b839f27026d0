package main

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	workersMax = 1024
	// warmShare of a measurement's duration goes by before it counts.
	warmShare = 5
)

// sample is one measurement.
type sample struct {
	Ops     int           `json:"ops"`
	Elapsed time.Duration `json:"elapsed"`
	P50     time.Duration `json:"p50"`
	P99     time.Duration `json:"p99"`
	// CPU is that of the cluster's processes, Clients that of this one where it
	// is not among them.
	CPU     time.Duration `json:"cpu"`
	Clients time.Duration `json:"clients"`
}

func (s sample) rate() float64 { return float64(s.Ops) / s.Elapsed.Seconds() }

// load is what workers do, and for how long.
type load struct {
	workers  int
	duration time.Duration
	// step is one operation of one worker; it returns how long it took, which
	// need not be its whole time. What it is given ends when something failed.
	step func(ctx context.Context, worker int) (time.Duration, error)
	// cluster are the processes whose processor time counts.
	cluster []int
}

// tally counts what ended while counting is on.
type tally struct {
	counting atomic.Bool
	over     atomic.Bool
	mu       sync.Mutex // guards took
	took     []time.Duration
}

// run runs the workers, each as fast as it gets answers. Operations that end in
// the counted time count, whenever they began.
func (l load) run(ctx context.Context) (sample, error) {
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	var t tally
	var all sync.WaitGroup
	defer all.Wait() // for the paths that fail
	defer t.over.Store(true)
	for w := range l.workers {
		all.Go(func() {
			if err := l.work(ctx, w, &t); err != nil {
				fail(err)
			}
		})
	}
	wait(ctx, l.duration/warmShare)
	before, err := l.cpu()
	if err != nil {
		fail(err)
	}
	t.counting.Store(true)
	begin := time.Now()
	wait(ctx, l.duration)
	t.counting.Store(false)
	elapsed := time.Since(begin)
	after, err := l.cpu()
	if err != nil {
		fail(err)
	}
	t.over.Store(true)
	all.Wait()
	if ctx.Err() != nil {
		return sample{}, context.Cause(ctx)
	}
	slices.Sort(t.took)
	return sample{
		Ops: len(t.took), Elapsed: elapsed, P50: quantile(t.took, 50), P99: quantile(t.took, 99),
		CPU: after.cluster - before.cluster, Clients: after.own - before.own,
	}, nil
}

func (l load) work(ctx context.Context, w int, t *tally) error {
	var took []time.Duration
	defer func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.took = append(t.took, took...)
	}()
	for !t.over.Load() && ctx.Err() == nil {
		d, err := l.step(ctx, w)
		if err != nil {
			return err
		}
		if t.counting.Load() {
			took = append(took, d)
		}
	}
	return nil
}

type cpuTimes struct{ cluster, own time.Duration }

func (l load) cpu() (cpuTimes, error) {
	cluster, err := cpuOf(l.cluster)
	return cpuTimes{cluster: cluster, own: cpuOwn()}, err
}

// wait waits for d, or until ctx ends.
func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// quantile of sorted durations, the nearest rank; 0 of none.
func quantile(sorted []time.Duration, percent int) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[max(0, (len(sorted)*percent+99)/100-1)]
}

// timed is a step that takes its whole time.
func timed(do func(ctx context.Context, worker int) error) func(context.Context, int) (time.Duration, error) {
	return func(ctx context.Context, w int) (time.Duration, error) {
		begin := time.Now()
		err := do(ctx, w)
		return time.Since(begin), err
	}
}
