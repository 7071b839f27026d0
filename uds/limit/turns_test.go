package limit

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func turns(t *testing.T, c TurnsConfig) *Turns {
	t.Helper()
	d := DefaultTurnsConfig()
	for value, otherwise := range map[*int]int{&c.AtOnce: 1, &c.Open: d.Open, &c.Queue: d.Queue, &c.Identities: d.Identities} {
		if *value == 0 {
			*value = otherwise
		}
	}
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	return NewTurns(c)
}

// taken fails the test if a turn is refused.
func taken(t *testing.T, of *Turns, identity string) (rest, done func()) {
	rest, done, err := of.Take(t.Context(), identity)
	if err != nil {
		t.Errorf("%s: %v", identity, err)
		return func() {}, func() {}
	}
	return rest, done
}

// empty: whoever had a turn, or gave up waiting for one, leaves nothing.
func empty(t *testing.T, of *Turns) {
	t.Helper()
	if of.busy != 0 || len(of.of) != 0 || len(of.next) != 0 || len(of.rest.waiting) != 0 || of.rest.open != 0 {
		t.Errorf("left: %d busy, %d identities, %d lines, %d and %d of the rest",
			of.busy, len(of.of), len(of.next), len(of.rest.waiting), of.rest.open)
	}
}

// One that asks for much keeps another waiting for one piece of it, not for all.
func TestTurnsGoRound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		of := turns(t, TurnsConfig{AtOnce: 2})
		var order []string
		var mu sync.Mutex
		var all sync.WaitGroup
		work := func(identity string) {
			all.Go(func() {
				_, done := taken(t, of, identity)
				defer done()
				mu.Lock()
				order = append(order, identity)
				mu.Unlock()
				time.Sleep(time.Second)
			})
			synctest.Wait()
		}
		began := time.Now()
		for range 100 {
			work("a")
		}
		work("b")
		work("b")
		work("c")
		all.Wait()
		if took := time.Since(began); took != 52*time.Second {
			t.Errorf("103 seconds of work took %v, two at once", took)
		}
		// Two of a's work, and a third is first in line: then each in turn.
		if got := order[:8]; !slices.Contains(got, "c") || strings.Count(strings.Join(got, ""), "b") != 2 {
			t.Errorf("the order was %v", order[:10])
		}
		empty(t, of)
	})
}

func TestTurnOfWhoGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		of := turns(t, TurnsConfig{})
		_, done := taken(t, of, "a")
		for _, identity := range []string{"a", "b"} {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			began := time.Now()
			if _, _, err := of.Take(ctx, identity); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != time.Second {
				t.Errorf("%s: %v after %v", identity, err, time.Since(began))
			}
			cancel()
			if _, _, err := of.Take(ctx, identity); err == nil {
				t.Error("a turn for who is gone")
			}
		}
		done()
		done() // counts once
		_, done = taken(t, of, "b")
		done()
		empty(t, of)
	})
}

// What was made and is not handed out yet counts for its identity alone.
func TestUnreadWorkKeepsItsIdentityOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		of := turns(t, TurnsConfig{AtOnce: 1, Open: 3})
		var unread []func()
		for range 3 {
			rest, done := taken(t, of, "a")
			rest()
			unread = append(unread, done)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, _, err := of.Take(ctx, "a"); err == nil {
			t.Error("a fourth while three are unread")
		}
		_, done := taken(t, of, "b")
		done()
		got := make(chan func(), 1)
		go func() {
			_, done := taken(t, of, "a")
			got <- done
		}()
		synctest.Wait()
		unread[0]()
		(<-got)()
		unread[1]()
		unread[2]()
		empty(t, of)
	})
}

func TestQueueOfAnIdentityIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		of := turns(t, TurnsConfig{Queue: 2})
		_, done := taken(t, of, "a")
		var all sync.WaitGroup
		for range 2 {
			all.Go(func() { _, done := taken(t, of, "a"); done() })
		}
		synctest.Wait()
		if _, _, err := of.Take(t.Context(), "a"); !errors.Is(err, ErrCrowded) {
			t.Errorf("a third waits: %v", err)
		}
		all.Go(func() { _, done := taken(t, of, "b"); done() })
		synctest.Wait()
		done()
		all.Wait()
		empty(t, of)
	})
}

func TestTurnsOfACrowd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		of := turns(t, TurnsConfig{Identities: 3, Queue: 1000, Kept: []string{"root"}})
		var all sync.WaitGroup
		_, done := taken(t, of, "first")
		for i := range 200 {
			all.Go(func() {
				_, done := taken(t, of, fmt.Sprint(i))
				time.Sleep(time.Second)
				done()
			})
		}
		synctest.Wait()
		if len(of.of) != 3 {
			t.Errorf("%d identities are kept apart", len(of.of))
		}
		began := time.Now()
		all.Go(func() {
			_, done := taken(t, of, "root")
			done()
			if waited := time.Since(began); waited > 5*time.Second {
				t.Errorf("root waited %v for the crowd", waited)
			}
		})
		synctest.Wait()
		done()
		all.Wait()
		empty(t, of)
	})
}

func TestTurnsValidate(t *testing.T) {
	if err := DefaultTurnsConfig().Validate(); err != nil {
		t.Error(err)
	}
	if err := (TurnsConfig{}).Validate(); err == nil || strings.Count(err.Error(), "\n") != 3 {
		t.Errorf("nothing at all: %v", err)
	}
}

// Never more at once than were agreed on, whoever gives up meanwhile.
func TestTurnsOfMany(t *testing.T) {
	of := turns(t, TurnsConfig{AtOnce: 3, Open: 4, Queue: 4})
	var mu sync.Mutex
	busy, most := 0, 0
	var all sync.WaitGroup
	for i := range 24 {
		all.Go(func() {
			for n := range 200 {
				ctx, cancel := context.WithCancel(context.Background())
				if n%3 == 0 {
					go cancel()
				}
				rest, done, err := of.Take(ctx, fmt.Sprint(i%3))
				if err == nil {
					mu.Lock()
					busy++
					most = max(most, busy)
					mu.Unlock()
					runtime.Gosched()
					mu.Lock()
					busy--
					mu.Unlock()
					rest()
					done()
				}
				cancel()
			}
		})
	}
	all.Wait()
	if most > 3 {
		t.Errorf("%d at once", most)
	}
	empty(t, of)
}
