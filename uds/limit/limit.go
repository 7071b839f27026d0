package limit

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Off, as a bound, is none.
const Off = -1

// Defaults of Config: far above what a user of one host comes by in earnest.
const (
	RateDefault       = 20_000
	BurstDefault      = 40_000
	ConcurrentDefault = 1024
	IdentitiesDefault = 1024
)

// looksMax is how many looks of one identity may be under way.
const looksMax = 16

// atOnceLater is when to come back for who has too much under way: nobody knows.
const atOnceLater = 100 * time.Millisecond

// Config is the bounds of each identity. Zero is no default but what it says;
// start from DefaultConfig.
type Config struct {
	// Rate is how many requests a second, in the long run; renewals have as much
	// again for themselves. Off: any.
	Rate int
	// Burst is how many at once, after a time of few.
	Burst int
	// Concurrent is how many may be under way, waits among them; looks have a
	// small bound of their own. Off: any.
	Concurrent int
	// Identities is how many are remembered. Of more, those that have asked for
	// nothing lately are forgotten; if there are none, the new ones share what
	// one identity has.
	Identities int
	// Kept are identities that have their bounds to themselves, however many
	// others there are.
	Kept []string
	// Now reads a monotonic clock.
	Now func() time.Time
}

// DefaultConfig is for an agent.
func DefaultConfig() Config {
	return Config{Rate: RateDefault, Burst: BurstDefault, Concurrent: ConcurrentDefault, Identities: IdentitiesDefault, Now: time.Now}
}

// Validate reports everything that is wrong with c at once.
func (c Config) Validate() error {
	var errs []error
	for _, b := range []struct {
		name  string
		value int
	}{{"rate", c.Rate}, {"burst", c.Burst}, {"concurrent", c.Concurrent}} {
		if b.value < 1 && b.value != Off {
			errs = append(errs, fmt.Errorf("%s %d would refuse everything: give 1 or more, or off", b.name, b.value))
		}
	}
	if c.Rate != Off && c.Burst == Off {
		errs = append(errs, errors.New("a rate needs a burst: give a number, or switch the rate off too"))
	}
	if c.Identities < 1 {
		errs = append(errs, fmt.Errorf("%d identities: give 1 or more", c.Identities))
	}
	return errors.Join(errs...)
}

// Limiter bounds identities. New makes one.
type Limiter struct {
	c  Config
	mu sync.Mutex // guards the rest
	of map[string]*bounds
	// rest are those that there is no room to remember.
	rest *bounds
}

// bounds are one identity's.
type bounds struct {
	requests, renewals *rate.Limiter
	under, looks       int
}

// New makes a Limiter with bounds that Validate takes.
func New(c Config) *Limiter {
	l := &Limiter{c: c, of: make(map[string]*bounds)}
	l.rest = l.fresh()
	return l
}

func (l *Limiter) fresh() *bounds {
	limit, burst := rate.Limit(l.c.Rate), l.c.Burst
	if l.c.Rate == Off {
		limit, burst = rate.Inf, math.MaxInt
	}
	return &bounds{requests: rate.NewLimiter(limit, burst), renewals: rate.NewLimiter(limit, burst)}
}

// Enter is for a request that takes a while. After true, leave must be called
// once, when it is over. False: later is when to come back.
func (l *Limiter) Enter(identity string) (leave func(), later time.Duration, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.find(identity)
	if l.c.Concurrent != Off && b.under >= l.c.Concurrent {
		return nil, atOnceLater, false
	}
	if later, ok = l.take(b.requests); !ok {
		return nil, later, false
	}
	return l.in(&b.under), 0, true
}

// Look is for a question about the agent itself, such as probes ask. However
// much else its identity asks, it is answered.
func (l *Limiter) Look(identity string) (leave func(), later time.Duration, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.find(identity)
	if l.c.Concurrent != Off && b.looks >= looksMax {
		return nil, atOnceLater, false
	}
	return l.in(&b.looks), 0, true
}

// in counts one more, until leave is called; needs mu.
func (l *Limiter) in(n *int) (leave func()) {
	*n++
	return sync.OnceFunc(func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		*n--
	})
}

// Admit is for a request that is bounded otherwise while it is under way.
func (l *Limiter) Admit(identity string) (later time.Duration, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.take(l.find(identity).requests)
}

// Renew is for a renewal.
func (l *Limiter) Renew(identity string) (later time.Duration, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.take(l.find(identity).renewals)
}

// take takes one from a bucket; one that is refused takes nothing.
func (l *Limiter) take(bucket *rate.Limiter) (later time.Duration, ok bool) {
	now := l.c.Now()
	r := bucket.ReserveN(now, 1)
	if later = r.DelayFrom(now); later > 0 {
		r.CancelAt(now)
		return later, false
	}
	return 0, true
}

func (l *Limiter) find(identity string) *bounds {
	if b := l.of[identity]; b != nil {
		return b
	}
	if len(l.of) >= l.c.Identities {
		l.forget()
	}
	if len(l.of) >= l.c.Identities && !slices.Contains(l.c.Kept, identity) {
		return l.rest
	}
	b := l.fresh()
	l.of[identity] = b
	return b
}

// forget drops the identities of which nothing need be known: nothing of theirs
// is under way, and they may ask for a whole burst.
func (l *Limiter) forget() {
	now := l.c.Now()
	for identity, b := range l.of {
		if b.under == 0 && b.looks == 0 && full(b.requests, now) && full(b.renewals, now) {
			delete(l.of, identity)
		}
	}
}

func full(bucket *rate.Limiter, now time.Time) bool {
	return bucket.Limit() == rate.Inf || bucket.TokensAt(now) >= float64(bucket.Burst())
}
