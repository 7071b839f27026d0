package consensus

import (
	"sync"
	"time"
)

const (
	// repeatsEvery is how often one and the same line about one peer is told: a
	// voter that is down for a day must not fill the disk.
	repeatsEvery = time.Minute
	// repeatsMax bounds the table. What finds no place shares one.
	repeatsMax = 256
)

// repeating are raft's lines that say again and again, for as long as a peer is
// not reached, that it was not. They mend themselves when it comes back. What
// changes this server's state (terms, votes, elections) is not among them, and
// is always told.
var repeating = map[string]bool{
	"failed to appendEntries to":     true,
	"failed to heartbeat to":         true,
	"failed to install snapshot":     true,
	"failed to make requestVote RPC": true,
	"failed to send snapshot to":     true,
}

// repeats counts the repeating lines of a log. It is safe from any goroutine.
type repeats struct {
	mu   sync.Mutex // guards the rest
	told map[repeat]*tally
}

type repeat struct{ msg, peer string }

// tally is when a line was told last, and how often it was not since.
type tally struct {
	last   time.Time
	untold int
}

func newRepeats() *repeats { return &repeats{told: make(map[repeat]*tally)} }

// take reports whether a line may be told now, and how many like it were not
// since the last one that was.
func (r *repeats) take(k repeat) (untold int, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	t := r.told[k]
	if t == nil {
		if len(r.told) >= repeatsMax {
			r.forget(now)
		}
		if len(r.told) >= repeatsMax {
			k = repeat{}
			t = r.told[k]
		}
	}
	if t == nil {
		r.told[k] = &tally{last: now}
		return 0, true
	}
	if now.Sub(t.last) < repeatsEvery {
		t.untold++
		return 0, false
	}
	untold = t.untold
	t.last, t.untold = now, 0
	return untold, true
}

// forget drops what would be told again, counts and all.
func (r *repeats) forget(now time.Time) {
	for k, t := range r.told {
		if now.Sub(t.last) >= repeatsEvery {
			delete(r.told, k)
		}
	}
}
