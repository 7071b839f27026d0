package raftlock

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	raftlockv1 "github.com/raftlock/raftlock/api/raftlock/v1"
)

// judgedStream notes whether anything was held when it was closed, and can
// break by itself, on this side.
type judgedStream struct {
	Stream
	broken chan struct{}
	held   func() bool
	late   *atomic.Bool
}

func (st judgedStream) Recv() (*raftlockv1.SessionResponse, error) {
	type got struct {
		m   *raftlockv1.SessionResponse
		err error
	}
	c := make(chan got, 1)
	go func() {
		m, err := st.Stream.Recv()
		c <- got{m, err}
	}()
	select {
	case g := <-c:
		return g.m, g.err
	case <-st.broken:
		return nil, errors.New("message too large")
	}
}

func (st judgedStream) Close() error {
	if st.held() {
		st.late.Store(true)
	}
	return st.Stream.Close()
}

func TestStreamBoundEndsWithItsStream(t *testing.T) {
	for _, side := range []string{"agent's", "ours"} {
		t.Run(side, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(t)
				f.attach = func(a *raftlockv1.Attached) { a.StreamBound = true }
				broken := make(chan struct{})
				var lock atomic.Pointer[Lock]
				var late atomic.Bool
				s := f.session(WithDialer(func(ctx context.Context) (Stream, error) {
					st, err := f.dial(ctx)
					return judgedStream{Stream: st, broken: broken, late: &late,
						held: func() bool { l := lock.Load(); return l != nil && l.Valid() }}, err
				}))
				if !s.StreamBound() {
					t.Error("not told")
				}
				l, err := s.Lock(t.Context(), "a")
				if err != nil {
					t.Fatal(err)
				}
				lock.Store(l)
				if side == "ours" {
					close(broken)
				} else {
					f.breakStream()
				}
				synctest.Wait()
				if late.Load() {
					t.Error("the stream was closed while the lock was still thought held")
				}
				if _, err := l.Token(); !errors.Is(err, ErrLost) || !errors.Is(err, ErrSessionEnded) {
					t.Errorf("token: %v", err)
				}
				select {
				case <-s.Done():
				default:
					t.Error("the session goes on")
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				if err := s.Close(ctx); err != nil {
					t.Errorf("close: %v", err)
				}
				if kinds := f.sent(); !slices.Equal(kinds, []string{"open", "acquire"}) {
					t.Errorf("%v", kinds)
				}
			})
		})
	}
}

func TestStreamBoundSessionCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		f.attach = func(a *raftlockv1.Attached) { a.StreamBound = true }
		s := f.session()
		if err := s.Close(t.Context()); err != nil {
			t.Errorf("close: %v", err)
		}
		if kinds := f.sent(); !slices.Equal(kinds, []string{"open", "end"}) {
			t.Errorf("%v", kinds)
		}
	})
}

func TestLeaseOnExitIsAskedForAtOpen(t *testing.T) {
	for name, opts := range map[string][]Option{"default": nil, "lease": {WithLeaseOnExit()}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(t)
				s := f.session(opts...)
				if asked := f.log[0].GetOpen().GetLeaseOnExit(); asked != (opts != nil) {
					t.Errorf("lease on exit: %v", asked)
				}
				_ = s.Close(t.Context())
			})
		})
	}
}
