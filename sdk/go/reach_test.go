package raftlock

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	raftlockv1 "github.com/raftlock/raftlock/api/raftlock/v1"
)

func (f *fake) tellReach(r raftlockv1.Reason) {
	f.tell(&raftlockv1.SessionResponse{Response: &raftlockv1.SessionResponse_Reach{Reach: &raftlockv1.Reach{Reason: r}}})
}

const (
	noQuorum = raftlockv1.Reason_REASON_NO_QUORUM
	noLeader = raftlockv1.Reason_REASON_NO_LEADER
)

func TestReachIsNamedWhenPatienceEnds(t *testing.T) {
	for _, c := range []struct {
		name  string
		tell  []raftlockv1.Reason
		wants []error
		not   []error
	}{
		{"nothing told", nil, []error{ErrCancelled}, []error{ErrNoQuorum, ErrNoLeader}},
		{"no quorum", []raftlockv1.Reason{noQuorum}, []error{ErrCancelled, ErrNoQuorum}, []error{ErrNoLeader}},
		{"no leader", []raftlockv1.Reason{noLeader}, []error{ErrCancelled, ErrNoLeader}, []error{ErrNoQuorum}},
		{"the last counts", []raftlockv1.Reason{noQuorum, noLeader}, []error{ErrNoLeader}, []error{ErrNoQuorum}},
		{"there again", []raftlockv1.Reason{noQuorum, ok}, []error{ErrCancelled}, []error{ErrNoQuorum}},
		{"a reason of the future", []raftlockv1.Reason{9999}, []error{ErrCancelled}, []error{ErrUnnamed}},
	} {
		calls := map[string]func(context.Context, *Session, *Lock) error{
			"lock":    func(ctx context.Context, s *Session, _ *Lock) error { _, err := s.Lock(ctx, "b"); return err },
			"unlock":  func(ctx context.Context, _ *Session, l *Lock) error { return l.Unlock(ctx) },
			"set TTL": func(ctx context.Context, s *Session, _ *Lock) error { return s.SetTTL(ctx, time.Minute) },
			"close":   func(ctx context.Context, s *Session, _ *Lock) error { return s.Close(ctx) },
		}
		for call, do := range calls {
			t.Run(c.name+"/"+call, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					f := newFake(t)
					s := f.session()
					l, err := s.Lock(t.Context(), "a")
					if err != nil {
						t.Fatal(err)
					}
					f.with(func() { f.deaf = true })
					for _, r := range c.tell {
						f.tellReach(r)
					}
					ctx, cancel := context.WithTimeout(t.Context(), time.Second)
					defer cancel()
					err = do(ctx, s, l)
					for _, want := range append(c.wants, context.DeadlineExceeded) {
						if !errors.Is(err, want) {
							t.Errorf("%v is not %v", err, want)
						}
					}
					for _, not := range c.not {
						if errors.Is(err, not) {
							t.Errorf("%v is %v", err, not)
						}
					}
					if e := new(Error); !errors.As(err, &e) || e.Applied != AppliedUnknown {
						t.Errorf("%v: applied %q", err, e.Applied)
					}
					f.with(func() { f.deaf = false })
					f.breakStream()
					_ = s.Close(t.Context())
				})
			})
		}
	}
}

func TestReachWhileOpening(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		f.shy = true
		time.AfterFunc(time.Second, func() { f.tellReach(noQuorum) })
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, err := NewSession(ctx, WithDialer(f.dial), WithClock(f.host.now))
		if e := new(Error); !errors.Is(err, ErrNoQuorum) || !errors.Is(err, context.DeadlineExceeded) ||
			!errors.As(err, &e) || e.Reason != noQuorum || e.Applied != AppliedUnknown {
			t.Errorf("%v", err)
		}
	})
}

func TestAppliedNoMeansNeverSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		f.away = true
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := NewSession(ctx, WithDialer(f.dial), WithClock(f.host.now))
		if e := new(Error); !errors.As(err, &e) || e.Applied != AppliedNo {
			t.Errorf("opening: %v", err)
		}
		f.away = false
		s := f.session()
		f.with(func() { f.away = true })
		f.breakStream()
		synctest.Wait()
		ctx, cancel = context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = s.Lock(ctx, "a")
		if e := new(Error); !errors.As(err, &e) || e.Applied != AppliedNo {
			t.Errorf("lock: %v", err)
		}
		f.with(func() { f.away = false })
		_ = s.Close(t.Context())
	})
}

// What an agent could not reach says nothing of the one that is there now, nor
// of a wait that was answered.
func TestReachIsOfThisStreamAndOfUnanswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		s := f.session()
		f.tellReach(noQuorum)
		f.breakStream()
		time.Sleep(time.Second)
		f.with(func() { f.deaf = true })
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := s.Lock(ctx, "a"); errors.Is(err, ErrNoQuorum) || !errors.Is(err, ErrCancelled) {
			t.Errorf("of the stream before: %v", err)
		}
		f.with(func() { f.deaf = false })
		f.strangerTakes("b")
		ctx, cancel = context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		time.AfterFunc(time.Millisecond, func() { f.tellReach(noQuorum) })
		if _, err := s.Lock(ctx, "b"); errors.Is(err, ErrNoQuorum) || !errors.Is(err, ErrCancelled) {
			t.Errorf("of a wait: %v", err)
		}
		_ = s.Close(t.Context())
	})
}
