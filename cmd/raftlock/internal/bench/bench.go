package bench

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	raftlock "github.com/raftlock/raftlock/sdk/go"
)

const (
	// WorkersMax bounds the workers: each has a session of its own.
	WorkersMax = 1000
	// releaseMax bounds the wait for a release, and closeMax that for the end of
	// a session. The agent sees the process end if it was not told.
	releaseMax = 10 * time.Second
	closeMax   = 5 * time.Second
	// progressEvery is how often progress is told.
	progressEvery = time.Second
	// refusedPause is how long a worker that was refused for load holds still.
	refusedPause = 10 * time.Millisecond
)

// Config says what to measure. No field has a default.
type Config struct {
	// Open opens a worker's session: one each, as processes have.
	Open func(context.Context) (*raftlock.Session, error)
	// Patience bounds the opening of all sessions.
	Patience time.Duration
	Workers  int
	// Contend: all want one lock, which goes from hand to hand. Else each has
	// its own.
	Contend bool
	// Prefix begins the locks' names. They should be nobody else's.
	Prefix   string
	Duration time.Duration
	// Clock must not step back.
	Clock func() time.Duration
	// Progress is told now and then how many pairs are done; nil: nobody is.
	// Run waits for it.
	Progress func(elapsed time.Duration, pairs uint64)
}

// Report is what was measured.
type Report struct {
	Workers int           `json:"workers"`
	Contend bool          `json:"contend"`
	Elapsed time.Duration `json:"elapsed_nanos"`
	// Pairs of an acquire and its release.
	Pairs       uint64  `json:"pairs"`
	PairsPerSec float64 `json:"pairs_per_second"`
	// Refused acquires: rate limited, or some queue or bound was full.
	Refused uint64    `json:"refused"`
	Acquire Quantiles `json:"acquire"`
	Release Quantiles `json:"release"`
	// HandOff is from the call of a release to the next one's grant, as the
	// worker that waited saw it; of contenders only.
	HandOff Quantiles `json:"hand_off"`
}

// Run measures until the duration has passed or ctx ends, which is no error. On
// an error the report has what was measured before. Errors: those of opening,
// locking and unlocking.
func Run(ctx context.Context, cfg Config) (Report, error) {
	r := &run{cfg: cfg}
	defer r.close(ctx)
	if err := r.open(ctx); err != nil {
		if ctx.Err() != nil {
			err = nil
		}
		return r.report(0), err
	}
	start := cfg.Clock()
	measuring, stop := context.WithTimeout(ctx, cfg.Duration)
	defer stop()
	var working, telling sync.WaitGroup
	for _, w := range r.workers {
		working.Go(func() {
			if w.err = w.work(measuring); w.err != nil {
				stop()
			}
		})
	}
	over := make(chan struct{})
	telling.Go(func() { r.tell(over, start) })
	working.Wait()
	elapsed := cfg.Clock() - start
	close(over)
	telling.Wait()
	for _, w := range r.workers {
		if w.err != nil {
			return r.report(elapsed), w.err // they all say the same, as a rule
		}
	}
	return r.report(elapsed), nil
}

type run struct {
	cfg     Config
	workers []*worker
	pairs   atomic.Uint64
	// released is the clock at the last release's call, of contenders.
	released atomic.Int64
}

// open opens the sessions, all at once.
func (r *run) open(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, r.cfg.Patience)
	defer cancel()
	errs := make([]error, r.cfg.Workers)
	sessions := make([]*raftlock.Session, r.cfg.Workers)
	var opening sync.WaitGroup
	for i := range r.cfg.Workers {
		opening.Go(func() { sessions[i], errs[i] = r.cfg.Open(ctx) })
	}
	opening.Wait()
	var first error
	for i, session := range sessions {
		if errs[i] != nil {
			first = errs[i] // they all say the same
			continue
		}
		name := fmt.Sprintf("%sown-%d", r.cfg.Prefix, i)
		if r.cfg.Contend {
			name = r.cfg.Prefix + "contended"
		}
		r.workers = append(r.workers, &worker{run: r, session: session, name: name})
	}
	return first
}

// close ends all sessions, and with them whatever they still hold or wait for.
func (r *run) close(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeMax)
	defer cancel()
	var closing sync.WaitGroup
	for _, w := range r.workers {
		// A session that could not be closed in time ends with this process.
		closing.Go(func() { _ = w.session.Close(ctx) })
	}
	closing.Wait()
}

func (r *run) tell(over <-chan struct{}, start time.Duration) {
	if r.cfg.Progress == nil {
		return
	}
	tick := time.NewTicker(progressEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			r.cfg.Progress(r.cfg.Clock()-start, r.pairs.Load())
		case <-over:
			return
		}
	}
}

// report must be called when no worker works.
func (r *run) report(elapsed time.Duration) Report {
	var acquire, release, handOff Latencies
	rep := Report{Workers: r.cfg.Workers, Contend: r.cfg.Contend, Elapsed: elapsed, Pairs: r.pairs.Load()}
	for _, w := range r.workers {
		acquire.Merge(&w.acquire)
		release.Merge(&w.release)
		handOff.Merge(&w.handOff)
		rep.Refused += w.refused
	}
	if elapsed > 0 {
		rep.PairsPerSec = float64(rep.Pairs) / elapsed.Seconds()
	}
	rep.Acquire, rep.Release, rep.HandOff = acquire.Quantiles(), release.Quantiles(), handOff.Quantiles()
	return rep
}
