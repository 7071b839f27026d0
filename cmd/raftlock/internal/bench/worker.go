package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	raftlock "github.com/raftlock/raftlock/sdk/go"
)

type worker struct {
	run     *run
	session *raftlock.Session
	name    string
	acquire Latencies
	release Latencies
	handOff Latencies
	refused uint64
	err     error
}

// work makes pairs until ctx ends, which is no error.
func (w *worker) work(ctx context.Context) error {
	for ctx.Err() == nil {
		asked := w.run.cfg.Clock()
		lock, err := w.session.Lock(ctx, w.name)
		switch {
		case err == nil:
		case ctx.Err() != nil:
			return nil
		case refused(err):
			w.refused++
			w.pause(ctx)
			continue
		default:
			return err
		}
		if err := w.giveBack(ctx, lock, asked); err != nil {
			return err
		}
	}
	return nil
}

// giveBack ends a pair. It is ended though ctx has: so nothing is left, and what
// was begun counts.
func (w *worker) giveBack(ctx context.Context, lock *raftlock.Lock, asked time.Duration) error {
	clock := w.run.cfg.Clock
	granted := clock()
	w.acquire.Add(granted - asked)
	// The one before gave it up while this one waited, or else it was free.
	if before := time.Duration(w.run.released.Load()); before > asked {
		w.handOff.Add(granted - before)
	}
	releasing := clock()
	if w.run.cfg.Contend {
		w.run.released.Store(int64(releasing))
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseMax)
	defer cancel()
	if err := lock.Unlock(ctx); err != nil {
		return fmt.Errorf("release %q: %w", w.name, err)
	}
	w.release.Add(clock() - releasing)
	w.run.pairs.Add(1)
	return nil
}

// refused: for load, and nothing was done.
func refused(err error) bool {
	return errors.Is(err, raftlock.ErrRateLimited) || errors.Is(err, raftlock.ErrQueueFull) || errors.Is(err, raftlock.ErrLimit)
}

func (w *worker) pause(ctx context.Context) {
	still := time.NewTimer(refusedPause)
	defer still.Stop()
	select {
	case <-still.C:
	case <-ctx.Done():
	}
}
