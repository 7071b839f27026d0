package sim

import (
	"math"
	"sort"
	"sync/atomic"
	"time"
)

// Clock is a host's lease clock: the bubble's time with an offset and a rate of
// its own. It never goes back, runs while the host is paused or down, and is
// safe for concurrent use.
type Clock struct {
	now func() time.Duration
	// pieces is replaced whole, so that readers take no lock. Writers hold
	// World.mu.
	pieces atomic.Pointer[[]piece]
}

// piece is one stretch of constant rate.
type piece struct {
	at      time.Duration // true time of its beginning
	reading time.Duration
	rate    float64
}

func newClock(now func() time.Duration, offset time.Duration) *Clock {
	c := &Clock{now: now}
	c.pieces.Store(&[]piece{{at: 0, reading: offset, rate: 1}})
	return c
}

// Read is the clock's reading now.
func (c *Clock) Read() time.Duration { return c.At(c.now()) }

// At is the clock's reading at a true time; for a time to come, as if the rate
// stayed.
func (c *Clock) At(when time.Duration) time.Duration {
	p := find(*c.pieces.Load(), func(p piece) bool { return p.at > when })
	return p.reading + scale(when-p.at, p.rate)
}

// True is the true time at which the clock shows reading, to a nanosecond; for
// a reading to come, as if the rate stayed.
func (c *Clock) True(reading time.Duration) time.Duration {
	p := find(*c.pieces.Load(), func(p piece) bool { return p.reading > reading })
	return p.at + scale(reading-p.reading, 1/p.rate)
}

// find is the last piece before the first that is past.
func find(pieces []piece, past func(piece) bool) piece {
	i := sort.Search(len(pieces), func(i int) bool { return past(pieces[i]) })
	return pieces[max(i-1, 0)]
}

// setRate begins a new piece at the time now. The caller holds World.mu.
func (c *Clock) setRate(rate float64) {
	now := c.now()
	old := *c.pieces.Load()
	next := piece{at: now, reading: c.At(now), rate: rate}
	if last := len(old) - 1; old[last].at == now {
		next.reading = old[last].reading
		old = old[:last]
	}
	pieces := append(append([]piece(nil), old...), next)
	c.pieces.Store(&pieces)
}

func scale(d time.Duration, rate float64) time.Duration {
	if rate == 1 {
		return d
	}
	return time.Duration(math.Round(float64(d) * rate))
}
