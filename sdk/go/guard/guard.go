package guard

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// What a guard can fail with; compare with errors.Is.
var (
	// ErrStale: a higher token was seen. The holder's time is over; it must
	// stop. The chain has a *StaleError with both numbers.
	ErrStale = errors.New("stale token")
	// ErrInvalid: a resource's name or a token is out of bounds. Nothing was
	// remembered; repeating it is useless.
	ErrInvalid = errors.New("invalid")
	// ErrFull: no more resources are taken. Nothing was remembered.
	ErrFull = errors.New("too many resources")
	// ErrClosed: the guard was closed.
	ErrClosed = errors.New("guard is closed")
	// ErrFailed: a write to the file failed, now or before. The token may have
	// been remembered; the write it came with must not be done. Open anew.
	ErrFailed = errors.New("guard failed")
	// ErrInUse: another guard has the file open.
	ErrInUse = errors.New("in use by another guard")
	// ErrCorrupt: the file is not a guard's, or what was accepted once is damaged.
	ErrCorrupt = errors.New("corrupt")
)

// StaleError is an ErrStale with its numbers.
type StaleError struct {
	Resource       string
	Token, Highest uint64
}

// Error names the resource and both tokens.
func (e *StaleError) Error() string {
	return fmt.Sprintf("stale token %d for %q: %d was seen", e.Token, e.Resource, e.Highest)
}

// Unwrap makes it an ErrStale.
func (e *StaleError) Unwrap() error { return ErrStale }

const (
	resourceBytesMax = 1024
	// DefaultMaxResources bounds memory and file if WithMaxResources does not.
	DefaultMaxResources = 1_000_000
)

// Option changes a default of New or Open.
type Option func(*Guard)

// WithMaxResources bounds how many resources are remembered. A file that has
// more already is opened, and takes no new ones.
func WithMaxResources(n int) Option { return func(g *Guard) { g.maxResources = n } }

// turn lets one caller at a time be busy with a resource.
type turn struct {
	free    chan struct{} // holds one while nobody is
	callers int           // who have it or wait
}

// Guard remembers the highest token of each resource. All methods are safe from
// any goroutine.
type Guard struct {
	maxResources int
	log          *log // nil: in memory only

	mu       sync.Mutex // guards everything below; not held during I/O, nor a write of Do
	changed  sync.Cond  // synced, writing or err changed
	highest  map[string]uint64
	turns    map[string]*turn
	gathered []record // the batch being gathered
	size     int      // its bytes
	batch    uint64   // its number, from 1
	synced   uint64   // the last batch on disk
	writing  bool     // a caller is busy with the log
	closed   bool
	closing  chan struct{} // made by the first Close, closed when it is done
	err      error         // why no more can be written
}

// New returns a guard that remembers as long as it lives.
func New(opts ...Option) *Guard {
	g := &Guard{maxResources: DefaultMaxResources, highest: map[string]uint64{}, turns: map[string]*turn{}}
	g.changed.L = &g.mu
	for _, o := range opts {
		o(g)
	}
	return g
}

// Check accepts the token if no higher one was seen for the resource, and
// remembers it; with a file, on disk before it returns. It waits for a Do of
// the same resource. Errors: ErrStale, ErrInvalid, ErrFull, ErrClosed, ErrFailed.
// Repeating is safe.
func (g *Guard) Check(resource string, token uint64) error {
	return g.Do(context.Background(), resource, token, func(context.Context) error { return nil })
}

// Do checks the token and, if it is accepted, runs write before any other token
// of this resource is looked at. So writes come in the order of their tokens. It
// waits for the write before it at most until ctx ends, and returns ctx's error
// then, Check's, or what write returned. The token stays accepted when write
// fails. A write that calls Check or Do for the same resource blocks for ever.
func (g *Guard) Do(ctx context.Context, resource string, token uint64, write func(context.Context) error) error {
	if token == 0 {
		return fmt.Errorf("check %q: %w: a token is never 0", resource, ErrInvalid)
	}
	leave, err := g.enter(ctx, resource)
	if err != nil {
		return fmt.Errorf("check %q: %w", resource, err)
	}
	defer leave()
	if err := g.raise(record{resource, token}); err != nil {
		return fmt.Errorf("check %q: %w", resource, err)
	}
	return write(ctx)
}

// Highest is the highest token that was seen for the resource; 0: none. It may
// not be on disk yet.
func (g *Guard) Highest(resource string) uint64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.highest[resource]
}

// Forget takes a resource away, to make room. Danger: every token passes for it
// then, so it must be gone for good, or no holder of an old token be alive.
// Errors: ErrInvalid, ErrClosed, ErrFailed.
func (g *Guard) Forget(resource string) error {
	leave, err := g.enter(context.Background(), resource)
	if err != nil {
		return fmt.Errorf("forget %q: %w", resource, err)
	}
	defer leave()
	if err := g.remember(record{resource, forgotten}); err != nil {
		return fmt.Errorf("forget %q: %w", resource, err)
	}
	return nil
}

// Close waits for checks under way and gives the file free. Checks fail with
// ErrClosed from then on. Safe to repeat.
func (g *Guard) Close() error {
	g.mu.Lock()
	if g.closed {
		g.mu.Unlock()
		<-g.closing
		return nil
	}
	defer g.mu.Unlock()
	g.closed, g.closing = true, make(chan struct{})
	defer close(g.closing)
	for g.err == nil && len(g.gathered) > 0 || g.writing {
		g.changed.Wait()
	}
	if g.log == nil {
		return nil
	}
	return g.log.close()
}

// enter takes the resource's turn; leave gives it on.
func (g *Guard) enter(ctx context.Context, resource string) (leave func(), err error) {
	if len(resource) == 0 || len(resource) > resourceBytesMax {
		return nil, fmt.Errorf("%w: a resource's name has 1 to %d bytes", ErrInvalid, resourceBytesMax)
	}
	g.mu.Lock()
	t := g.turns[resource]
	if t == nil {
		t = &turn{free: make(chan struct{}, 1)}
		t.free <- struct{}{}
		g.turns[resource] = t
	}
	t.callers++
	g.mu.Unlock()
	gone := func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		if t.callers--; t.callers == 0 {
			delete(g.turns, resource)
		}
	}
	select {
	case <-t.free:
		return func() { t.free <- struct{}{}; gone() }, nil
	case <-ctx.Done():
		gone()
		return nil, ctx.Err()
	}
}

// raise remembers the record's token, unless a higher one was seen.
func (g *Guard) raise(r record) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	was, known := g.highest[r.resource]
	switch {
	case g.refuses() != nil:
		return g.refuses()
	case r.token < was:
		return &StaleError{Resource: r.resource, Token: r.token, Highest: was}
	case r.token == was:
		// On disk: whoever raised it kept the turn until it was.
		return nil
	case !known && len(g.highest) >= g.maxResources:
		return fmt.Errorf("%w: %d are remembered", ErrFull, len(g.highest))
	}
	return g.gather(r)
}

func (g *Guard) remember(r record) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := g.refuses(); err != nil {
		return err
	}
	return g.gather(r)
}

func (g *Guard) refuses() error {
	switch {
	case g.err != nil:
		return g.err
	case g.closed:
		return ErrClosed
	}
	return nil
}
