package raftlock

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"
)

// story uses everything once. However streams break under it, its outcome is
// the same.
func story(t *testing.T, f *fake) {
	f.strangerTakes("wanted")
	f.strangerTakes("taken")
	s := f.session()
	a := mustLock(t, s, "a")
	if _, err := s.TryLock(t.Context(), "taken"); !errors.Is(err, ErrHeld) {
		t.Errorf("try: %v", err)
	}
	time.AfterFunc(2500*time.Millisecond, func() { f.strangerLeaves("wanted") })
	wanted := mustLock(t, s, "wanted")
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := s.Lock(ctx, "taken"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("wait: %v", err)
	}
	if err := s.SetTTL(t.Context(), 5*time.Second); err != nil {
		t.Errorf("set TTL: %v", err)
	}
	if err := a.Unlock(t.Context()); err != nil {
		t.Errorf("unlock: %v", err)
	}
	anew := mustLock(t, s, "a")
	time.Sleep(3 * time.Second)
	if !wanted.Valid() || !anew.Valid() {
		t.Error("lost under leases")
	}
	if token, err := anew.Token(); err != nil || token <= a.token {
		t.Errorf("token %d after %d: %v", token, a.token, err)
	}
	f.with(func() {
		if f.lock("taken").holder != stranger || len(f.lock("taken").queue) != 0 {
			t.Errorf("taken: %v", f.lock("taken"))
		}
	})
	if err := s.Close(t.Context()); err != nil {
		t.Errorf("close: %v", err)
	}
	if left := f.leftovers(); left != nil {
		t.Errorf("left: %v", left)
	}
}

func TestStoryUnbroken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { story(t, newFake(t)) })
}

func TestStreamBrokenAtEveryMessage(t *testing.T) {
	for _, kind := range []cut{{}, {late: true}, {response: true}} {
		name := fmt.Sprintf("response=%v,late=%v", kind.response, kind.late)
		t.Run(name, func(t *testing.T) {
			for k, hit := 1, true; hit && !t.Failed(); k++ {
				synctest.Test(t, func(t *testing.T) {
					f := newFake(t)
					f.cuts = []cut{{at: k, response: kind.response, late: kind.late}}
					story(t, f)
					hit = f.requests >= k && !kind.response || f.replies >= k && kind.response
					if t.Failed() {
						t.Logf("cut at %d: %v", k, f.sent())
					}
				})
			}
		})
	}
}

// Two cuts: the second falls on what mends the first.
func TestStreamBrokenTwice(t *testing.T) {
	for k := 1; k < 24 && !t.Failed(); k++ {
		for gap := 1; gap < 6 && !t.Failed(); gap++ {
			for mix := range 8 {
				synctest.Test(t, func(t *testing.T) {
					f := newFake(t)
					f.cuts = []cut{
						{at: k, late: mix&1 != 0, response: mix&4 != 0},
						{at: k + gap, late: mix&2 != 0, response: mix&4 != 0},
					}
					story(t, f)
					if t.Failed() {
						t.Logf("cut at %d and %d, mix %d: %v", k, k+gap, mix, f.sent())
					}
				})
			}
		}
	}
}

// Chaos: everything at once, and two rules. A handle that says valid is the
// cluster's holder, by a deadline that the agent told; and nothing leaks.
func TestChaos(t *testing.T) {
	for range 20 {
		seed := rand.Uint64()
		synctest.Test(t, func(t *testing.T) {
			chaos(t, newFake(t), rand.New(rand.NewPCG(seed, 1)))
			if t.Failed() {
				t.Logf("seed %d", seed)
			}
		})
	}
}

func chaos(t *testing.T, f *fake, random *rand.Rand) {
	s := f.session(WithTTL(2 * time.Second))
	ctx, cancel := context.WithCancel(t.Context())
	users := make(chan struct{})
	const n = 6
	for i := range n {
		own := rand.New(rand.NewPCG(random.Uint64(), 2))
		go func() {
			defer func() { users <- struct{}{} }()
			for ctx.Err() == nil {
				use(ctx, t, f, s, own, string(rune('a'+i%3)))
			}
		}()
	}
	changing, own := make(chan struct{}), rand.New(rand.NewPCG(random.Uint64(), 3))
	go func() {
		defer close(changing)
		changeTTL(ctx, t, s, own)
	}()
	for range 300 {
		time.Sleep(time.Duration(random.IntN(int(200 * time.Millisecond))))
		harm(f, random)
	}
	f.with(func() { f.away, f.silent, f.cuts = false, false, nil })
	cancel()
	<-changing
	for range n {
		<-users
	}
	time.Sleep(10 * time.Second)
	if left := f.leftovers(); left != nil {
		t.Errorf("left: %v", left)
	}
	s.mu.Lock()
	if len(s.owed)+len(s.calls)+len(s.locks) != 0 || len(s.acks.above) != 0 {
		t.Errorf("kept: %d debts, %d calls, %d locks, acks %v", len(s.owed), len(s.calls), len(s.locks), s.acks)
	}
	s.mu.Unlock()
	if err := s.Close(t.Context()); err != nil {
		t.Errorf("close: %v", err)
	}
}

func changeTTL(ctx context.Context, t *testing.T, s *Session, random *rand.Rand) {
	for ctx.Err() == nil {
		time.Sleep(time.Duration(random.IntN(int(5 * time.Second))))
		ttl := time.Second + time.Duration(random.IntN(int(3*time.Second)))
		if err := s.SetTTL(ctx, ttl); err != nil && ctx.Err() == nil {
			t.Errorf("set TTL: %v", err)
		}
	}
}

func use(ctx context.Context, t *testing.T, f *fake, s *Session, random *rand.Rand, name string) {
	short, cancel := context.WithTimeout(ctx, time.Duration(random.IntN(int(time.Second))))
	defer cancel()
	l, err := s.Lock(short, name)
	if err != nil {
		if !errors.Is(err, short.Err()) && !errors.Is(err, ErrLost) {
			t.Errorf("lock: %v", err)
		}
		time.Sleep(time.Duration(random.IntN(int(100 * time.Millisecond))))
		return
	}
	wasLost := false
	for range random.IntN(10) {
		time.Sleep(time.Duration(random.IntN(int(500 * time.Millisecond))))
		if !l.Valid() {
			wasLost = true
		} else {
			judgeHold(t, f, l, wasLost)
		}
	}
	if err := l.Unlock(ctx); err != nil && !errors.Is(err, ErrLost) && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("unlock: %v", err)
	}
}

func judgeHold(t *testing.T, f *fake, l *Lock, wasLost bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if wasLost {
		t.Errorf("%s/%d came back", l.name, l.seq)
	}
	if f.lock(l.name).holder != l.seq {
		t.Errorf("%s/%d is valid, the holder is %d", l.name, l.seq, f.lock(l.name).holder)
	}
	if now := f.host.now(); now >= f.promised[l.seq] {
		t.Errorf("%s/%d is valid at %v, promised until %v", l.name, l.seq, now, f.promised[l.seq])
	}
}

func harm(f *fake, random *rand.Rand) {
	synctest.Wait() // a pause stops the process too: nothing is half done
	switch random.IntN(8) {
	case 0:
		f.with(func() { f.away = true })
	case 1:
		f.with(func() { f.away = false })
	case 2:
		f.breakStream()
	case 3:
		f.with(func() { f.silent = !f.silent })
	case 4:
		f.host.jump(time.Duration(random.IntN(int(3 * time.Second))))
	case 5:
		f.with(func() { f.cuts = []cut{{at: f.requests + 1 + random.IntN(4), late: random.IntN(2) == 0}} })
	case 6:
		f.with(func() { f.cuts = []cut{{at: f.replies + 1 + random.IntN(4), response: true}} })
	case 7:
		name := string(rune('a' + random.IntN(3)))
		f.strangerTakes(name)
		time.AfterFunc(time.Duration(random.IntN(int(time.Second))), func() { f.strangerLeaves(name) })
	}
}
