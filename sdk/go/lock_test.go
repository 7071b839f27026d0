package raftlock

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	raftlockv1 "github.com/raftlock/raftlock/api/raftlock/v1"
)

// bubble runs a story on virtual time with an agent and an open session, and
// checks at its end that nothing was left behind.
func bubble(t *testing.T, story func(t *testing.T, f *fake, s *Session)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		s := f.session()
		story(t, f, s)
		f.with(func() {
			if f.deaf || f.shy {
				f.stream.breakOff() // what it did not hear is said again
			}
			f.away, f.deaf, f.shy = false, false, false
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := s.Close(ctx); err != nil {
			t.Errorf("close: %v", err)
		}
		if left := f.leftovers(); left != nil {
			t.Errorf("left in the cluster: %v", left)
		}
	})
}

func mustLock(t *testing.T, s *Session, name string) *Lock {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	l, err := s.Lock(ctx, name)
	if err != nil {
		t.Fatalf("lock: %v", err)
	}
	return l
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// wantLost checks that a handle says so in every way it can.
func wantLost(t *testing.T, l *Lock) {
	t.Helper()
	if l.Valid() {
		t.Error("valid")
	}
	if _, err := l.Token(); !errors.Is(err, ErrLost) {
		t.Errorf("token: %v", err)
	}
	if err := l.Unlock(t.Context()); !errors.Is(err, ErrLost) {
		t.Errorf("unlock: %v", err)
	}
	synctest.Wait()
	if !closed(l.Lost()) || !errors.Is(context.Cause(l.Context()), ErrLost) {
		t.Errorf("lost channel %v, context %v", closed(l.Lost()), context.Cause(l.Context()))
	}
}

func TestLockAndUnlock(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake, s *Session) {
		type key struct{}
		ctx, cancel := context.WithCancel(context.WithValue(t.Context(), key{}, "value"))
		l, err := s.Lock(ctx, "a", WithPriority(7), WithMetadata(map[string]string{"k": "v"}))
		if err != nil {
			t.Fatal(err)
		}
		cancel()
		token, err := l.Token()
		if err != nil || token != 1 || !l.Valid() || l.Name() != "a" {
			t.Fatalf("token %d, %v", token, err)
		}
		if l.Context().Err() != nil || l.Context().Value(key{}) != "value" {
			t.Error("the lock's context is the request's")
		}
		f.with(func() {
			a := f.log[len(f.log)-1].GetAcquire()
			if a.GetPriority() != 7 || a.GetMetadata()["k"] != "v" {
				t.Errorf("asked for %v", a)
			}
		})
		if err := l.Unlock(t.Context()); err != nil {
			t.Fatal(err)
		}
		if f.holder("a") != 0 {
			t.Error("unlock returned before it was applied")
		}
		if _, err := l.Token(); !errors.Is(err, ErrReleased) || l.Valid() {
			t.Errorf("after unlock: %v", err)
		}
		if closed(l.Lost()) || !errors.Is(context.Cause(l.Context()), ErrReleased) {
			t.Error("unlocked is not lost, and ends the context")
		}
		if err := l.Unlock(t.Context()); err != nil {
			t.Errorf("unlocked again: %v", err)
		}
	})
}

func TestTryLock(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake, s *Session) {
		f.strangerTakes("a")
		_, err := s.TryLock(t.Context(), "a")
		var e *Error
		if !errors.Is(err, ErrHeld) || !errors.As(err, &e) || e.Applied != AppliedNo {
			t.Errorf("held: %v", err)
		}
		f.strangerLeaves("a")
		if l, err := s.TryLock(t.Context(), "a"); err != nil || !l.Valid() {
			t.Errorf("free: %v", err)
		}
	})
}

func TestLockWaitsForItsTurn(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake, s *Session) {
		f.strangerTakes("a")
		time.AfterFunc(time.Minute, func() { f.strangerLeaves("a") })
		start := time.Now()
		mustLock(t, s, "a")
		if waited := time.Since(start); waited != time.Minute {
			t.Errorf("waited %v", waited)
		}
	})
}

func TestGoroutinesContendLikeStrangers(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake, s *Session) {
		first := mustLock(t, s, "a")
		if _, err := s.TryLock(t.Context(), "a"); !errors.Is(err, ErrHeld) {
			t.Errorf("second: %v", err)
		}
		got := make(chan *Lock)
		go func() { l, _ := s.Lock(context.Background(), "a"); got <- l }()
		synctest.Wait()
		if err := first.Unlock(t.Context()); err != nil {
			t.Fatal(err)
		}
		if l := <-got; !l.Valid() || first.Valid() {
			t.Error("handed over wrongly")
		}
	})
}

func TestBadRequestsAreRefusedHere(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake, s *Session) {
		before := len(f.sent())
		big := WithMetadata(map[string]string{"k": strings.Repeat("x", metadataBytesMax)})
		for name, try := range map[string]func() error{
			"empty name": func() error { _, err := s.Lock(t.Context(), ""); return err },
			"long name":  func() error { _, err := s.Lock(t.Context(), strings.Repeat("x", 513)); return err },
			"no UTF-8":   func() error { _, err := s.Lock(t.Context(), "\xff"); return err },
			"control":    func() error { _, err := s.Lock(t.Context(), "a\nb"); return err },
			"metadata":   func() error { _, err := s.Lock(t.Context(), "a", big); return err },
			"metadata text": func() error {
				_, err := s.Lock(t.Context(), "a", WithMetadata(map[string]string{"\xff": ""}))
				return err
			},
			"small TTL": func() error { return s.SetTTL(t.Context(), TTLMin-1) },
		} {
			if err := try(); !errors.Is(err, ErrInvalid) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if after := len(f.sent()); after != before {
			t.Errorf("%d requests sent", after-before)
		}
	})
}

func TestRefusedAcquire(t *testing.T) {
	for _, c := range []struct {
		name    string
		answer  *raftlockv1.Answer
		want    error
		applied Applied
		undone  bool
	}{
		{"limit", &raftlockv1.Answer{Reason: raftlockv1.Reason_REASON_LIMIT, Detail: "waiters"}, ErrLimit, AppliedNo, false},
		{"unknown", &raftlockv1.Answer{Reason: raftlockv1.Reason_REASON_NO_QUORUM, Unknown: true}, ErrNoQuorum, AppliedUnknown, true},
		{"no standing", &raftlockv1.Answer{Reason: ok}, ErrUnnamed, AppliedNo, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, f *fake, s *Session) {
				f.with(func() { f.refuse["acquire"] = c.answer })
				_, err := s.Lock(t.Context(), "a")
				var e *Error
				if !errors.Is(err, c.want) || !errors.As(err, &e) || e.Applied != c.applied {
					t.Errorf("%v", err)
				}
				synctest.Wait()
				if got := slices.Contains(f.sent(), "cancel"); got != c.undone {
					t.Errorf("cancel sent: %v", got)
				}
			})
		})
	}
}

func TestLockContextEndsInTheQueue(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake, s *Session) {
		f.strangerTakes("a")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		_, err := s.Lock(ctx, "a")
		if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		synctest.Wait()
		if left := f.leftovers(); left != nil {
			t.Errorf("still there: %v", left)
		}
	})
}

func TestCancelIsKeptUntilConfirmed(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake, s *Session) {
		f.with(func() { f.deaf = true })
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		// The first of them is not answered at all, so neither is its cancel.
		if _, err := s.Lock(ctx, "a"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
		for range 3 {
			f.breakStream()
			time.Sleep(2 * time.Second)
		}
		f.with(func() { f.deaf = false })
		f.breakStream()
		time.Sleep(2 * time.Second)
		f.with(func() {
			r := f.seqs[2]
			if r.standing == nil || r.standing.State != raftlockv1.Standing_STATE_GONE || !r.delivered {
				t.Errorf("the acquire's sequence is %v", r.standing)
			}
			if last := f.log[len(f.log)-1]; last.AckMark < 2 {
				t.Errorf("acknowledged up to %d", last.AckMark)
			}
		})
		kinds := f.sent()
		// Confirmed is confirmed: it is not said again.
		f.breakStream()
		time.Sleep(2 * time.Second)
		if again := f.sent()[len(kinds):]; slices.Contains(again, "cancel") {
			t.Errorf("sent again: %v", again)
		}
	})
}

func TestCancelRacesWithGrant(t *testing.T) {
	for delay := -2; delay <= 2; delay++ {
		bubble(t, func(t *testing.T, f *fake, s *Session) {
			f.strangerTakes("a")
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			time.AfterFunc(time.Second+time.Duration(delay), func() { f.strangerLeaves("a") })
			l, err := s.Lock(ctx, "a")
			synctest.Wait()
			switch {
			case err == nil && (!l.Valid() || f.holder("a") == 0):
				t.Error("granted and gone")
			case err != nil && !errors.Is(err, context.DeadlineExceeded):
				t.Error(err)
			case err != nil && f.leftovers() != nil:
				t.Errorf("%v leaked", f.leftovers())
			}
		})
	}
}

func TestGrantAfterCancelIsGivenBack(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake, s *Session) {
		f.with(func() { f.deaf = true })
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := s.Lock(ctx, "a"); err == nil {
			t.Fatal("granted")
		}
		// The agent took the acquire after all, and lost the cancel.
		f.with(func() {
			f.deaf = false
			f.acquire(f.stream, f.seqs[2].body.GetAcquire())
		})
		f.breakStream()
		time.Sleep(2 * time.Second)
		if left := f.leftovers(); left != nil {
			t.Errorf("%v leaked", left)
		}
	})
}

func TestStrayGrantIsGivenBack(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake, s *Session) {
		l := mustLock(t, s, "a")
		if err := l.Unlock(t.Context()); err != nil {
			t.Fatal(err)
		}
		f.with(func() {
			f.grant(f.lock("a"), 2)
			f.update(f.stream, 2)
		})
		synctest.Wait()
		if left := f.leftovers(); left != nil {
			t.Errorf("%v leaked", left)
		}
	})
}

func TestUnlockOnCancelledContext(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake, s *Session) {
		ctx, cancel := context.WithCancel(t.Context())
		l := mustLock(t, s, "a")
		cancel()
		if err := l.Unlock(ctx); err != nil || f.holder("a") != 0 {
			t.Errorf("unlock: %v", err)
		}
	})
}

func TestUnlockIsBoundedAndGoesOn(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake, s *Session) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		l := mustLock(t, s, "a")
		f.with(func() { f.deaf = true })
		start := time.Now()
		err := l.Unlock(ctx)
		var e *Error
		if !errors.As(err, &e) || e.Applied != AppliedUnknown || time.Since(start) != graceMax {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		if l.Valid() {
			t.Error("valid after unlock")
		}
		f.with(func() { f.deaf = false })
		f.breakStream()
		if err := l.Unlock(t.Context()); err != nil || f.holder("a") != 0 {
			t.Errorf("the second: %v", err)
		}
	})
}

func TestReleaseRefusedIsKept(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake, s *Session) {
		l := mustLock(t, s, "a")
		f.with(func() {
			f.refuse["release"] = &raftlockv1.Answer{Reason: raftlockv1.Reason_REASON_NO_QUORUM, Unknown: true}
		})
		if err := l.Unlock(t.Context()); !errors.Is(err, ErrNoQuorum) {
			t.Errorf("unlock: %v", err)
		}
		synctest.Wait()
		if left := f.leftovers(); left != nil {
			t.Errorf("%v leaked", left)
		}
	})
}

func TestUnlockOfWhatWasTakenAway(t *testing.T) {
	for _, reason := range []raftlockv1.Reason{raftlockv1.Reason_REASON_LOST, raftlockv1.Reason_REASON_REVOKED} {
		t.Run(reason.String(), func(t *testing.T) {
			bubble(t, func(t *testing.T, f *fake, s *Session) {
				l := mustLock(t, s, "a")
				f.with(func() { f.leave(2, reason) }) // not told
				if err := l.Unlock(t.Context()); !errors.Is(err, ErrLost) {
					t.Errorf("unlock: %v", err)
				}
			})
		})
	}
}

func TestRequestsAreBounded(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake, s *Session) {
		f.with(func() { f.away = true })
		f.breakStream()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		errs := make(chan error, callsMax)
		for range callsMax {
			go func() { _, err := s.Lock(ctx, "a"); errs <- err }()
		}
		synctest.Wait()
		if _, err := s.Lock(ctx, "a"); !errors.Is(err, ErrQueueFull) {
			t.Errorf("one too many: %v", err)
		}
		for range callsMax {
			err := <-errs
			var e *Error
			if !errors.Is(err, context.DeadlineExceeded) || !errors.As(err, &e) || e.Applied != AppliedNo {
				t.Fatalf("%v", err)
			}
			if !strings.Contains(err.Error(), "nobody listens") {
				t.Fatalf("%v does not say why", err)
			}
		}
		if len(s.calls)+len(s.owed) != 0 {
			t.Errorf("%d calls, %d debts are kept", len(s.calls), len(s.owed))
		}
	})
}

func TestRequestsWaitForTheStream(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake, s *Session) {
		f.with(func() { f.away = true })
		f.breakStream()
		time.AfterFunc(3*time.Second, func() { f.with(func() { f.away = false }) })
		mustLock(t, s, "a")
	})
}
