package raftlock

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	raftlockv1 "github.com/raftlock/raftlock/api/raftlock/v1"
)

// vOf is the V of one hold.
func vOf(s *Session, seq uint64) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.locks[seq].deadline
}

func owes(s *Session) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.owed)
}

func TestValidUntilV(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake, s *Session) {
		f.with(func() { f.silent = true })
		l := mustLock(t, s, "a")
		v := holdersShare(DefaultTTL)
		time.Sleep(v - 1)
		if !l.Valid() || closed(l.Lost()) {
			t.Error("lost before V")
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		if !closed(l.Lost()) {
			t.Error("the channel did not follow")
		}
		wantLost(t, l)
	})
}

func TestLeftAndDeadlineFollowV(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake, s *Session) {
		f.with(func() { f.silent = true })
		l := mustLock(t, s, "a")
		v := holdersShare(DefaultTTL)
		at := f.host.now() + v
		time.Sleep(time.Second)
		if left := l.Left(); left != v-time.Second || l.Deadline() != at {
			t.Errorf("left %v, deadline %v", left, l.Deadline())
		}
		f.host.jump(v) // the clock ran, timers did not
		if l.Left() != 0 || l.Deadline() != at {
			t.Errorf("past V: left %v, deadline %v", l.Left(), l.Deadline())
		}
		f.with(func() { f.silent = false })
		time.Sleep(DefaultTTL)
		l = mustLock(t, s, "b")
		if err := l.Unlock(t.Context()); err != nil || l.Left() != 0 {
			t.Errorf("unlocked: left %v, %v", l.Left(), err)
		}
	})
}

func TestLeaseMovesV(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake, s *Session) {
		l := mustLock(t, s, "a")
		time.Sleep(10 * DefaultTTL)
		if !l.Valid() {
			t.Error("lost under leases")
		}
		if s.Deadline() <= f.host.now() || s.Deadline() > f.host.now()+holdersShare(DefaultTTL) {
			t.Errorf("deadline %v at %v", s.Deadline(), f.host.now())
		}
	})
}

func TestVMovesForwardOnly(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake, s *Session) {
		f.with(func() { f.silent = true })
		mustLock(t, s, "a")
		v := s.Deadline()
		f.tellLease(v - time.Second)
		synctest.Wait()
		if s.Deadline() != v || vOf(s, 2) != v {
			t.Errorf("%v and %v, want %v", s.Deadline(), vOf(s, 2), v)
		}
	})
}

// A pause: the clock runs on, timers do not, and the first thing heard after it
// is a lease that would bring V back.
func TestVNeverComesBack(t *testing.T) {
	for name, news := range map[string]func(f *fake){
		"lease": func(f *fake) { f.tellLease(f.host.now() + time.Second) },
		"standing": func(f *fake) {
			f.with(func() {
				f.v = f.host.now() + time.Second
				f.update(f.stream, 2)
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, f *fake, s *Session) {
				l := mustLock(t, s, "a")
				synctest.Wait()
				f.host.jump(holdersShare(DefaultTTL))
				news(f)
				synctest.Wait()
				wantLost(t, l)
				// Lost is final, and the hold is given back.
				time.Sleep(DefaultTTL)
				wantLost(t, l)
				if f.holder("a") != 0 {
					t.Error("kept in the cluster")
				}
				mustLock(t, s, "a")
			})
		})
	}
}

func TestEveryCheckLooksAtTheClock(t *testing.T) {
	for name, check := range map[string]func(l *Lock) error{
		"valid": func(l *Lock) error {
			if l.Valid() {
				return nil
			}
			return ErrLost
		},
		"token":  func(l *Lock) error { _, err := l.Token(); return err },
		"unlock": func(l *Lock) error { return l.Unlock(context.Background()) },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, f *fake, s *Session) {
				l := mustLock(t, s, "a")
				f.host.jump(holdersShare(DefaultTTL)) // no timer ran
				if err := check(l); !errors.Is(err, ErrLost) {
					t.Errorf("%v", err)
				}
				wantLost(t, l)
			})
		})
	}
}

func TestAgentSaysLost(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake, s *Session) {
		l := mustLock(t, s, "a")
		f.with(func() {
			f.leave(2, raftlockv1.Reason_REASON_LOST)
			f.update(f.stream, 2)
		})
		synctest.Wait()
		wantLost(t, l)
		if slices.Contains(f.sent(), "lost") {
			t.Error("given back though it is gone")
		}
	})
}

func TestLostIsGivenBackBeforeTheLockIsTakenAnew(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake, s *Session) {
		l := mustLock(t, s, "a")
		synctest.Wait()
		f.host.jump(holdersShare(DefaultTTL))
		// The call that notices it is the one that takes the lock anew.
		anew := mustLock(t, s, "a")
		wantLost(t, l)
		if token, err := anew.Token(); err != nil || token != 2 {
			t.Errorf("token %d: %v", token, err)
		}
		kinds := f.sent()
		if tail := kinds[len(kinds)-2:]; !slices.Equal(tail, []string{"lost", "acquire"}) {
			t.Errorf("sent %v", kinds)
		}
	})
}

func TestLostIsGivenBackOverStreams(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake, s *Session) {
		mustLock(t, s, "a")
		f.with(func() { f.deaf = true })
		synctest.Wait()
		f.host.jump(holdersShare(DefaultTTL))
		time.Sleep(DefaultTTL)
		for range 2 {
			f.breakStream()
			time.Sleep(2 * time.Second)
		}
		f.with(func() {
			for _, m := range f.log {
				for _, b := range m.GetReconcile().GetNamed() {
					t.Errorf("still named: %v", b)
				}
			}
			f.deaf = false
		})
		f.breakStream()
		time.Sleep(2 * time.Second)
		if f.holder("a") != 0 || owes(s) != 0 {
			t.Errorf("holder %d, owed %d", f.holder("a"), owes(s))
		}
	})
}

// Lost between the Reconcile that named it and its answer.
func TestLostWhileReconciling(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake, s *Session) {
		l := mustLock(t, s, "a")
		f.with(func() {
			f.silent = true
			f.onRequest = func(m *raftlockv1.SessionRequest) {
				if m.GetReconcile() != nil {
					f.onRequest = nil
					f.host.jump(holdersShare(DefaultTTL))
				}
			}
		})
		f.breakStream()
		time.Sleep(time.Second)
		wantLost(t, l)
		if f.holder("a") != 0 || owes(s) != 0 {
			t.Errorf("holder %d, owed %d", f.holder("a"), owes(s))
		}
	})
}

func TestGrantPastItsDeadline(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake, s *Session) {
		f.with(func() { f.silent = true })
		f.strangerTakes("a")
		time.AfterFunc(DefaultTTL, func() { f.strangerLeaves("a") })
		if _, err := s.Lock(t.Context(), "a"); !errors.Is(err, ErrLost) {
			t.Errorf("%v", err)
		}
		synctest.Wait()
		if f.holder("a") != 0 {
			t.Error("kept in the cluster")
		}
	})
}

func TestRevoked(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake, s *Session) {
		revoked, other := mustLock(t, s, "a"), mustLock(t, s, "b")
		time.Sleep(time.Second)
		frozen := vOf(s, 2)
		f.with(func() {
			f.seqs[2].standing.Revoked = true
			f.update(f.stream, 2)
		})
		synctest.Wait()
		if !closed(revoked.Revoked()) || closed(other.Revoked()) || !revoked.Valid() {
			t.Error("revoked is still held, and told")
		}
		for range 5 {
			f.breakStream() // nor does a reconcile move it
			time.Sleep(time.Second)
		}
		if !revoked.Valid() || vOf(s, 2) != frozen {
			t.Errorf("deadline %v, frozen at %v", vOf(s, 2), frozen)
		}
		time.Sleep(frozen - f.host.now())
		wantLost(t, revoked)
		if !other.Valid() {
			t.Error("the other hold went too")
		}
	})
}

// Between Attached and Reconciled nothing is known of what happened to a hold
// meanwhile: it may be revoked. No deadline moves it.
func TestOnlyWhatTheStreamSpokeOfMoves(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake, s *Session) {
		l := mustLock(t, s, "a")
		f.with(func() { f.silent = true })
		synctest.Wait()
		v := vOf(s, 2)
		time.Sleep(v - f.host.now() - time.Second)
		f.with(func() { f.deaf = true }) // attaches, does not reconcile
		f.breakStream()
		time.Sleep(100 * time.Millisecond)
		f.tellLease(f.host.now() + holdersShare(DefaultTTL))
		synctest.Wait()
		if s.Deadline() <= v || vOf(s, 2) != v || !l.Valid() {
			t.Errorf("session %v, hold %v, was %v", s.Deadline(), vOf(s, 2), v)
		}
		time.Sleep(time.Second)
		wantLost(t, l)
	})
}

func TestLeaseOfAnotherClockIsIgnored(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake, s *Session) {
		v := s.Deadline()
		f.tell(&raftlockv1.SessionResponse{Response: &raftlockv1.SessionResponse_Lease{
			Lease: &raftlockv1.Lease{DeadlineNanos: uint64(v + time.Hour), ClockNanos: uint64(f.host.now() + 1)}}})
		synctest.Wait()
		if s.Deadline() != v {
			t.Errorf("moved to %v", s.Deadline())
		}
	})
}

func TestSmallerTTLCountsFirst(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake, s *Session) {
		l := mustLock(t, s, "a")
		f.with(func() { f.silent, f.deaf = true, true })
		done := make(chan error)
		go func() { done <- s.SetTTL(context.Background(), time.Second) }()
		synctest.Wait()
		want := f.host.now() + holdersShare(time.Second)
		if vOf(s, 2) != want || s.Deadline() != want {
			t.Errorf("%v and %v, want %v", vOf(s, 2), s.Deadline(), want)
		}
		// A lease of the larger TTL was on its way.
		f.tellLease(f.host.now() + holdersShare(DefaultTTL))
		synctest.Wait()
		if vOf(s, 2) != want {
			t.Errorf("%v, want %v", vOf(s, 2), want)
		}
		// A later one is worth what it is worth under the smaller.
		time.Sleep(100 * time.Millisecond)
		f.tellLease(f.host.now() + holdersShare(DefaultTTL))
		synctest.Wait()
		if want = f.host.now() + holdersShare(time.Second); vOf(s, 2) != want {
			t.Errorf("%v, want %v", vOf(s, 2), want)
		}
		f.with(func() { f.silent, f.deaf = false, false })
		f.breakStream()
		if err := <-done; err != nil || s.TTL() != time.Second {
			t.Errorf("%v, TTL %v", err, s.TTL())
		}
		time.Sleep(time.Minute)
		if !l.Valid() {
			t.Error("lost")
		}
	})
}

func TestLargerTTLCountsLater(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake, s *Session) {
		v := s.Deadline()
		if err := s.SetTTL(t.Context(), time.Minute); err != nil || s.TTL() != time.Minute {
			t.Errorf("%v, TTL %v", err, s.TTL())
		}
		if s.Deadline() != v {
			t.Errorf("moved to %v", s.Deadline())
		}
		time.Sleep(time.Minute)
		if s.Deadline() < f.host.now()+50*time.Second {
			t.Errorf("V is %v at %v", s.Deadline(), f.host.now())
		}
	})
}

func TestSetTTLOfUnknownOutcome(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake, s *Session) {
		mustLock(t, s, "a")
		f.with(func() {
			f.silent = true
			f.refuse["ttl"] = &raftlockv1.Answer{Reason: raftlockv1.Reason_REASON_NO_QUORUM, Unknown: true}
		})
		if err := s.SetTTL(t.Context(), time.Second); !errors.Is(err, ErrNoQuorum) {
			t.Errorf("%v", err)
		}
		want := f.host.now() + holdersShare(time.Second)
		f.tellLease(f.host.now() + holdersShare(DefaultTTL))
		synctest.Wait()
		if vOf(s, 2) != want {
			t.Errorf("%v, want %v: the smaller may be in force", vOf(s, 2), want)
		}
		f.with(func() { f.silent = false })
		if err := s.SetTTL(t.Context(), DefaultTTL); err != nil {
			t.Error(err)
		}
	})
}

func TestSetTTLTakesTurns(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake, s *Session) {
		f.with(func() { f.deaf = true })
		errs := make(chan error)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		for range 3 {
			go func() { errs <- s.SetTTL(ctx, DefaultTTL) }()
		}
		applied := map[Applied]int{}
		for range 3 {
			err := <-errs
			var e *Error
			if !errors.Is(err, context.DeadlineExceeded) || !errors.As(err, &e) {
				t.Fatalf("%v", err)
			}
			applied[e.Applied]++
		}
		if applied[AppliedUnknown] != 1 || applied[AppliedNo] != 2 {
			t.Errorf("%v", applied)
		}
	})
}

func TestBeats(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake, s *Session) {
		f.with(func() { f.log = nil })
		time.Sleep(DefaultTTL)
		f.with(func() {
			if n := len(f.log); n != beatShare {
				t.Errorf("%d beats a TTL", n)
			}
			for _, m := range f.log {
				if m.GetBeat() == nil || m.AckMark != 1 {
					t.Errorf("%v", m)
				}
			}
		})
	})
}
