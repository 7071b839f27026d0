package limit

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// clock is a time that tests move.
type clock struct{ now time.Time }

func (c *clock) read() time.Time { return c.now }

func limiter(t *testing.T, c Config) (*Limiter, *clock) {
	t.Helper()
	k := &clock{now: time.Unix(1000, 0)}
	c.Now = k.read
	if c.Identities == 0 {
		c.Identities = 10
	}
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	return New(c), k
}

func TestRate(t *testing.T) {
	l, k := limiter(t, Config{Rate: 10, Burst: 3, Concurrent: Off})
	for i := range 3 {
		if _, ok := l.Admit("a"); !ok {
			t.Fatalf("request %d of a burst is refused", i+1)
		}
	}
	for range 5 { // who is refused spends nothing
		if later, ok := l.Admit("a"); ok || later != 100*time.Millisecond {
			t.Fatalf("past the burst: %v, later %v", ok, later)
		}
	}
	if _, ok := l.Admit("b"); !ok {
		t.Error("another identity pays for it")
	}
	if _, ok := l.Renew("a"); !ok {
		t.Error("a renewal is refused for the requests")
	}
	k.now = k.now.Add(100 * time.Millisecond)
	if _, ok := l.Admit("a"); !ok {
		t.Error("refused when it came back at the time it was told")
	}
	if _, ok := l.Admit("a"); ok {
		t.Error("more than the rate")
	}
}

// Whatever else its identity has under way or has spent, a look is let in, until
// too many looks are.
func TestLooksAreApart(t *testing.T) {
	l, _ := limiter(t, Config{Rate: 1, Burst: 1, Concurrent: 1, Identities: 1})
	if _, _, ok := l.Enter("a"); !ok {
		t.Fatal("the first is refused")
	}
	var leave func()
	for i := range looksMax {
		var ok bool
		if leave, _, ok = l.Look("a"); !ok {
			t.Fatalf("look %d is refused", i+1)
		}
	}
	if _, later, ok := l.Look("a"); ok || later <= 0 {
		t.Errorf("one look too many: %v, later %v", ok, later)
	}
	leave()
	leave() // counts once
	if _, _, ok := l.Look("a"); !ok {
		t.Error("room is not given back")
	}
	if _, _, ok := l.Look("a"); ok {
		t.Error("room is given back twice")
	}
}

func TestConcurrent(t *testing.T) {
	l, _ := limiter(t, Config{Rate: Off, Burst: Off, Concurrent: 2})
	leave, _, ok := l.Enter("a")
	_, _, ok2 := l.Enter("a")
	if !ok || !ok2 {
		t.Fatal("refused below the bound")
	}
	if _, later, ok := l.Enter("a"); ok || later <= 0 {
		t.Fatalf("three at once: %v, later %v", ok, later)
	}
	if _, ok := l.Admit("a"); !ok {
		t.Error("what is not counted while under way is refused for what is")
	}
	if _, _, ok := l.Enter("b"); !ok {
		t.Error("another identity pays for it")
	}
	leave()
	leave() // counts once
	if _, _, ok := l.Enter("a"); !ok {
		t.Error("room is not given back")
	}
	if _, _, ok := l.Enter("a"); ok {
		t.Error("room is given back twice")
	}
}

func TestRefusedForRateIsNotUnderWay(t *testing.T) {
	l, k := limiter(t, Config{Rate: 1, Burst: 1, Concurrent: 1})
	leave, _, _ := l.Enter("a")
	leave()
	if _, _, ok := l.Enter("a"); ok {
		t.Fatal("past the rate")
	}
	k.now = k.now.Add(time.Second)
	if _, _, ok := l.Enter("a"); !ok {
		t.Error("refused requests are counted as under way")
	}
}

func TestIdentitiesAreBounded(t *testing.T) {
	l, k := limiter(t, Config{Rate: 1, Burst: 2, Concurrent: 1, Identities: 3})
	leave, _, _ := l.Enter("waits")
	for i := range 100 {
		l.Admit(fmt.Sprint(i))
	}
	if len(l.of) != 3 {
		t.Fatalf("%d identities are remembered", len(l.of))
	}
	if _, ok := l.Admit("0"); !ok {
		t.Error("one that was there before the crowd is refused for it")
	}
	if _, ok := l.Admit("new"); ok {
		t.Error("those without a place have more than one identity together")
	}
	k.now = k.now.Add(time.Minute)
	if _, ok := l.Admit("new"); !ok || l.of["new"] == nil {
		t.Error("those that ask for nothing keep their places")
	}
	if _, _, ok := l.Enter("waits"); ok {
		t.Error("one that waits was forgotten")
	}
	leave()
}

// Who looks after the host is never shut out by a crowd of others, all waiting.
func TestKeptAreNeverOfTheCrowd(t *testing.T) {
	l, _ := limiter(t, Config{Rate: 10, Burst: 10, Concurrent: 2, Identities: 3, Kept: []string{"root", "own"}})
	for i := range 20 {
		l.Enter(fmt.Sprint(i))
	}
	if _, _, ok := l.Enter("new"); ok {
		t.Fatal("there is no crowd")
	}
	for _, kept := range []string{"root", "own"} {
		if _, _, ok := l.Enter(kept); !ok {
			t.Errorf("%s is refused for the crowd", kept)
		}
		l.Enter(kept)
		if _, _, ok := l.Enter(kept); ok {
			t.Errorf("%s has no bounds", kept)
		}
	}
}

func TestOffIsAny(t *testing.T) {
	l, _ := limiter(t, Config{Rate: Off, Burst: Off, Concurrent: Off})
	for range 100_000 {
		if _, _, ok := l.Enter("a"); !ok {
			t.Fatal("refused")
		}
	}
}

func TestValidate(t *testing.T) {
	good := DefaultConfig()
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
	for name, change := range map[string]func(*Config){
		"rate 0 is no default":  func(c *Config) { c.Rate = 0 },
		"a negative rate":       func(c *Config) { c.Rate = -2 },
		"burst 0":               func(c *Config) { c.Burst = 0 },
		"a rate without burst":  func(c *Config) { c.Burst = Off },
		"concurrent 0":          func(c *Config) { c.Concurrent = 0 },
		"nobody is remembered":  func(c *Config) { c.Identities = 0 },
		"a negative concurrent": func(c *Config) { c.Concurrent = -7 },
	} {
		c := DefaultConfig()
		change(&c)
		if c.Validate() == nil {
			t.Errorf("%s is taken", name)
		}
	}
}

func TestManyAtOnce(t *testing.T) {
	c := DefaultConfig()
	c.Rate, c.Burst, c.Concurrent, c.Identities = Off, Off, 4, 2
	l := New(c)
	var under, most atomic.Int32
	var all sync.WaitGroup
	for i := range 16 {
		all.Go(func() {
			for range 500 {
				leave, _, ok := l.Enter("a")
				if !ok {
					continue
				}
				n := under.Add(1)
				for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
				}
				l.Admit(fmt.Sprint(i))
				under.Add(-1)
				leave()
			}
		})
	}
	all.Wait()
	if most.Load() > 4 {
		t.Errorf("%d at once", most.Load())
	}
}

func BenchmarkEnter(b *testing.B) {
	l := New(DefaultConfig())
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if leave, _, ok := l.Enter("uid:1000"); ok {
				leave()
			}
		}
	})
}
