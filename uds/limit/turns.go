package limit

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
)

// Defaults of TurnsConfig. What goes on at once shares the processors with
// heartbeats, which must not wait behind it for long.
const (
	AtOnceDefault = 2
	OpenDefault   = 32
	QueueDefault  = 1024
)

// ErrCrowded refuses a turn to an identity that has too many waiting already.
var ErrCrowded = errors.New("too much of one identity waits for its turn")

// TurnsConfig is the bounds of Turns.
type TurnsConfig struct {
	// AtOnce is how many pieces of work are done at once, of all identities.
	AtOnce int
	// Open is how many pieces of one identity are there at once: worked on, or
	// worked on before and not handed out yet.
	Open int
	// Queue is how many of one identity wait.
	Queue int
	// Identities is how many are kept apart; any more share one place. Those
	// that nothing is under way of take none.
	Identities int
	// Kept are identities that never share their place, however many there are.
	Kept []string
}

// DefaultTurnsConfig is for an agent.
func DefaultTurnsConfig() TurnsConfig {
	return TurnsConfig{AtOnce: AtOnceDefault, Open: OpenDefault, Queue: QueueDefault, Identities: IdentitiesDefault}
}

// Validate reports everything that is wrong with c at once.
func (c TurnsConfig) Validate() error {
	var errs []error
	for _, b := range []struct {
		name  string
		value int
	}{{"at once", c.AtOnce}, {"open", c.Open}, {"queue", c.Queue}, {"identities", c.Identities}} {
		if b.value < 1 {
			errs = append(errs, fmt.Errorf("%s %d: give 1 or more", b.name, b.value))
		}
	}
	return errors.Join(errs...)
}

// Turns lets few pieces of heavy work go on at once, and the identities in turn:
// one that asks for a thousand keeps another waiting for one of them, not for all.
// Work that waits for somebody else (a leader, a reader) must not share Turns
// with work that does not.
type Turns struct {
	c  TurnsConfig
	mu sync.Mutex // guards the rest
	// busy is how many work now.
	busy int
	of   map[string]*line
	rest *line
	// next are the lines whose first may have a turn, in their order.
	next []*line
}

// line is what one identity has.
type line struct {
	identity string
	waiting  []*turn
	open     int
	listed   bool // in next
}

type turn struct{ come chan struct{} }

// NewTurns makes Turns with bounds that Validate takes.
func NewTurns(c TurnsConfig) *Turns {
	return &Turns{c: c, of: make(map[string]*line), rest: &line{}}
}

// Take waits for a turn, until ctx ends. After no error rest and done must be
// called, any number of times: rest when the work is done, which lets others
// work, and done when nothing is left of what was made; done alone will do for
// both. Errors: ErrCrowded, and what ended ctx.
func (t *Turns) Take(ctx context.Context, identity string) (rest, done func(), err error) {
	if err := context.Cause(ctx); err != nil {
		return nil, nil, err
	}
	t.mu.Lock()
	l := t.find(identity)
	if len(l.waiting) >= t.c.Queue {
		t.mu.Unlock()
		return nil, nil, ErrCrowded
	}
	mine := &turn{come: make(chan struct{})}
	l.waiting = append(l.waiting, mine)
	t.list(l)
	t.give()
	t.mu.Unlock()

	select {
	case <-mine.come:
	case <-ctx.Done():
		if t.withdraw(l, mine) {
			return nil, nil, context.Cause(ctx)
		}
	}
	rest = sync.OnceFunc(func() { t.after(func() { t.busy-- }) })
	end := sync.OnceFunc(func() { t.after(func() { t.leave(l) }) })
	return rest, func() { rest(); end() }, nil
}

// withdraw takes a turn that has not come out of its line. False: it has come.
func (t *Turns) withdraw(l *line, mine *turn) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i, w := range l.waiting {
		if w == mine {
			l.waiting = append(l.waiting[:i], l.waiting[i+1:]...)
			t.forget(l)
			return true
		}
	}
	return false
}

func (t *Turns) after(change func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	change()
	t.give()
}

func (t *Turns) leave(l *line) {
	l.open--
	t.list(l)
	t.forget(l)
}

func (t *Turns) find(identity string) *line {
	if l := t.of[identity]; l != nil {
		return l
	}
	if len(t.of) >= t.c.Identities && !slices.Contains(t.c.Kept, identity) {
		return t.rest
	}
	l := &line{identity: identity}
	t.of[identity] = l
	return l
}

// forget drops a line that nothing is in. One that is listed goes when its turn
// comes.
func (t *Turns) forget(l *line) {
	if len(l.waiting) == 0 && l.open == 0 && !l.listed && l != t.rest {
		delete(t.of, l.identity)
	}
}

// list puts a line last if its first may have a turn.
func (t *Turns) list(l *line) {
	if !l.listed && len(l.waiting) > 0 && l.open < t.c.Open {
		l.listed = true
		t.next = append(t.next, l)
	}
}

// give lets work begin while there is room: one of each line, in their order.
func (t *Turns) give() {
	for t.busy < t.c.AtOnce && len(t.next) > 0 {
		l := t.next[0]
		t.next[0] = nil
		t.next = t.next[1:]
		l.listed = false
		if len(l.waiting) > 0 {
			first := l.waiting[0]
			l.waiting[0] = nil
			l.waiting = l.waiting[1:]
			l.open++
			t.busy++
			close(first.come)
			t.list(l)
		}
		t.forget(l)
	}
}
