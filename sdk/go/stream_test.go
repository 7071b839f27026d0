package raftlock

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/protobuf/proto"

	raftlockv1 "github.com/raftlock/raftlock/api/raftlock/v1"
)

func TestOpenWaitsForTheAgent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		f.away = true
		time.AfterFunc(20*time.Second, func() { f.with(func() { f.away = false }) })
		start := time.Now()
		s := f.session()
		if waited := time.Since(start); waited < 20*time.Second || waited > 21*time.Second {
			t.Errorf("waited %v", waited)
		}
		// Jittered from 10 ms to 1 s: it neither storms nor sleeps.
		if f.dials < 20 || f.dials > 100 {
			t.Errorf("%d dials", f.dials)
		}
		_ = s.Close(t.Context())
	})
}

func TestOpenGivesUpWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		f.away = true
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, err := NewSession(ctx, WithDialer(f.dial), WithClock(f.host.now))
		if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "nobody listens") {
			t.Errorf("%v", err)
		}
	})
}

func TestOpenIsRepeatedWithItsSequence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		f.shy = true
		time.AfterFunc(time.Second, f.breakStream)
		time.AfterFunc(2*time.Second, func() {
			f.with(func() { f.shy = false })
			f.breakStream()
		})
		s := f.session()
		if kinds := f.sent(); !slices.Equal(kinds, []string{"open", "open", "open"}) {
			t.Errorf("%v", kinds)
		}
		_ = s.Close(t.Context())
	})
}

func TestAnswersToOpen(t *testing.T) {
	for _, c := range []struct {
		reason raftlockv1.Reason
		want   error
		kinds  []string
	}{
		{raftlockv1.Reason_REASON_EXISTS, nil, []string{"open", "resume", "reconcile"}},
		{raftlockv1.Reason_REASON_SUPERSEDED, nil, []string{"open", "resume", "reconcile"}},
		{raftlockv1.Reason_REASON_NO_LEADER, nil, []string{"open", "open"}},
		{raftlockv1.Reason_REASON_QUEUE_FULL, nil, []string{"open", "open"}},
		{raftlockv1.Reason_REASON_DENIED, ErrDenied, []string{"open"}},
		{raftlockv1.Reason_REASON_LIMIT, ErrLimit, []string{"open"}},
		{raftlockv1.Reason_REASON_INVALID, ErrInvalid, []string{"open"}},
	} {
		t.Run(c.reason.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(t)
				f.attach = func(a *raftlockv1.Attached) { a.Reason = c.reason }
				s, err := NewSession(t.Context(), WithDialer(f.dial), WithClock(f.host.now))
				if !errors.Is(err, c.want) {
					t.Fatalf("%v", err)
				}
				synctest.Wait()
				if kinds := f.sent(); !slices.Equal(kinds, c.kinds) {
					t.Errorf("%v, want %v", kinds, c.kinds)
				}
				if err == nil {
					_ = s.Close(t.Context())
				}
			})
		})
	}
}

func TestClocksThatCannotBeCompared(t *testing.T) {
	for name, off := range map[string]time.Duration{"ahead": time.Nanosecond, "behind": -time.Nanosecond, "far": -30 * time.Minute} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(t)
				f.attach = func(a *raftlockv1.Attached) { a.ClockNanos += uint64(off) }
				if _, err := NewSession(t.Context(), WithDialer(f.dial), WithClock(f.host.now)); !errors.Is(err, ErrClock) {
					t.Errorf("%v", err)
				}
				if f.ended == 0 {
					t.Error("the session was left open")
				}
			})
		})
	}
}

func TestResumeFindsAnotherClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		s := f.session()
		l := mustLock(t, s, "a")
		f.with(func() { f.attach = func(a *raftlockv1.Attached) { a.ClockNanos++ } })
		f.breakStream()
		<-s.Done()
		if !errors.Is(s.Err(), ErrClock) || !errors.Is(s.Err(), ErrSessionEnded) {
			t.Errorf("%v", s.Err())
		}
		wantLost(t, l)
		_ = s.Close(t.Context())
	})
}

func TestResumeTellsAllThatIsBelieved(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake, s *Session) {
		held := mustLock(t, s, "held")
		f.strangerTakes("waited")
		waited := make(chan *Lock)
		go func() { l, _ := s.Lock(context.Background(), "waited"); waited <- l }()
		synctest.Wait()
		f.with(func() { f.deaf = true })
		asked := make(chan *Lock)
		go func() { l, _ := s.Lock(context.Background(), "asked"); asked <- l }()
		synctest.Wait()
		f.with(func() { f.deaf = false })
		f.breakStream()
		if l := <-asked; !l.Valid() {
			t.Error("asked for and not held")
		}
		f.with(func() {
			i := slices.IndexFunc(f.log, func(m *raftlockv1.SessionRequest) bool { return m.GetReconcile() != nil })
			resume, r := f.log[i-1].GetResume(), f.log[i].GetReconcile()
			want := &raftlockv1.Reconcile{Next: 6, Named: []*raftlockv1.Belief{
				{Seq: 2, Token: held.token, Lock: "held"}, {Seq: 3, Lock: "waited"}, {Seq: 4, Lock: "asked"}}}
			if !proto.Equal(r, want) {
				t.Errorf("%v, want %v", r, want)
			}
			if resume.GetSeq() != 5 || resume.GetTtlNanos() != uint64(DefaultTTL) || resume.GetDeadlineNanos() == 0 {
				t.Errorf("%v", resume)
			}
		})
		f.strangerLeaves("waited")
		if l := <-waited; !l.Valid() || !held.Valid() {
			t.Error("not held")
		}
	})
}

// A request made after the Reconcile went out lies at or above its next; the
// judge in the fake fails the test if it does not.
func TestRequestMadeWhileReconciling(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake, s *Session) {
		var started sync.WaitGroup
		defer started.Wait()
		f.with(func() {
			f.onRequest = func(m *raftlockv1.SessionRequest) {
				if m.GetReconcile() == nil {
					return
				}
				f.onRequest = nil
				// The answer is in the queue; the client has not read it yet, or
				// has: both orders come up.
				started.Go(func() { _, _ = s.Lock(context.Background(), "a") })
			}
		})
		f.breakStream()
		time.Sleep(time.Second)
		if f.holder("a") == 0 {
			t.Error("not held")
		}
		f.breakStream()
		time.Sleep(time.Second)
		if f.holder("a") == 0 {
			t.Error("taken away by a reconcile")
		}
	})
}

func TestNamedAndNotKnown(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake, s *Session) {
		l := mustLock(t, s, "a")
		f.strangerTakes("b")
		failed := make(chan error)
		go func() { _, err := s.Lock(context.Background(), "b"); failed <- err }()
		synctest.Wait()
		f.with(func() {
			for seq := uint64(2); seq <= 3; seq++ { // as if the cluster had forgotten
				f.leave(seq, raftlockv1.Reason_REASON_LOST)
				f.seqs[seq] = &record{kind: "acquire", body: f.seqs[seq].body, delivered: true}
			}
		})
		f.breakStream()
		if err := <-failed; !errors.Is(err, ErrNotWaiting) {
			t.Errorf("wait: %v", err)
		}
		wantLost(t, l)
	})
}

func TestDuplicatesChangeNothing(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake, s *Session) {
		l := mustLock(t, s, "a")
		v := vOf(s, 2)
		f.with(func() {
			held := f.told(2)
			for range 2 {
				f.answer(f.stream, &raftlockv1.Answer{Seq: 2, Reason: ok, Standing: held})
				f.update(f.stream, 2)
				f.stream.say(&raftlockv1.SessionResponse{Response: &raftlockv1.SessionResponse_Reconciled{Reconciled: &raftlockv1.Reconciled{}}})
				f.stream.say(&raftlockv1.SessionResponse{Response: &raftlockv1.SessionResponse_Attached{
					Attached: &raftlockv1.Attached{Seq: 1, Reason: ok, DeadlineNanos: uint64(f.v + time.Hour)}}})
				f.stream.say(&raftlockv1.SessionResponse{})
				f.answer(f.stream, &raftlockv1.Answer{Seq: 99, Reason: ok})
				held = proto.Clone(held).(*raftlockv1.Standing)
				held.State, held.DeadlineNanos = raftlockv1.Standing_STATE_WAITING, 0
			}
		})
		synctest.Wait()
		if !l.Valid() || vOf(s, 2) != v || len(s.owed) != 0 {
			t.Errorf("valid %v, V %v, owed %v", l.Valid(), vOf(s, 2), s.owed)
		}
	})
}

func TestAnotherTokenIsAnotherHold(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake, s *Session) {
		l := mustLock(t, s, "a")
		f.with(func() {
			f.seqs[2].standing.Token++
			f.update(f.stream, 2)
		})
		synctest.Wait()
		wantLost(t, l)
	})
}

func TestEnded(t *testing.T) {
	for _, c := range []struct {
		reason raftlockv1.Reason
		want   error
	}{
		{raftlockv1.Reason_REASON_SUPERSEDED, ErrSuperseded},
		{raftlockv1.Reason_REASON_EXPIRED, ErrExpired},
		{raftlockv1.Reason_REASON_SESSION_ENDED, ErrSessionEnded},
		{ok, ErrSessionEnded}, // told of an end that its own application asked for
	} {
		t.Run(c.reason.String(), func(t *testing.T) {
			bubble(t, func(t *testing.T, f *fake, s *Session) {
				l := mustLock(t, s, "a")
				f.strangerTakes("b")
				errs := make(chan error)
				go func() { _, err := s.Lock(context.Background(), "b"); errs <- err }()
				synctest.Wait()
				f.with(func() { f.end(c.reason) })
				f.tellEnded(c.reason)
				if err := <-errs; !errors.Is(err, ErrSessionEnded) || !errors.Is(err, c.want) {
					t.Errorf("wait: %v", err)
				}
				<-s.Done()
				if err := s.Err(); !errors.Is(err, ErrSessionEnded) || !errors.Is(err, c.want) {
					t.Errorf("err: %v", err)
				}
				wantLost(t, l)
				for name, try := range map[string]func() error{
					"lock":    func() error { _, err := s.Lock(t.Context(), "c"); return err },
					"set TTL": func() error { return s.SetTTL(t.Context(), DefaultTTL) },
				} {
					if err := try(); !errors.Is(err, c.want) {
						t.Errorf("%s: %v", name, err)
					}
				}
			})
		})
	}
}

// An acquire that was sent may have been granted before its session ended, for
// as long as that took: only one that is refused here surely had no effect.
func TestSessionEndsUnderARequest(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake, s *Session) {
		f.strangerTakes("b")
		errs := make(chan error)
		go func() { _, err := s.Lock(context.Background(), "b"); errs <- err }()
		synctest.Wait()
		f.with(func() { f.end(raftlockv1.Reason_REASON_EXPIRED) })
		f.tellEnded(raftlockv1.Reason_REASON_EXPIRED)
		wantApplied(t, <-errs, AppliedUnknown)
		<-s.Done()
		_, err := s.Lock(t.Context(), "c")
		wantApplied(t, err, AppliedNo)
	})
}

func wantApplied(t *testing.T, err error, want Applied) {
	t.Helper()
	var e *Error
	if !errors.Is(err, ErrSessionEnded) || !errors.As(err, &e) || e.Applied != want {
		t.Errorf("%v: applied %q, want %q", err, e.Applied, want)
	}
}

func TestSessionGoneAtResume(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake, s *Session) {
		l := mustLock(t, s, "a")
		f.with(func() { f.end(raftlockv1.Reason_REASON_EXPIRED) })
		f.breakStream()
		<-s.Done()
		if !errors.Is(s.Err(), ErrExpired) {
			t.Errorf("%v", s.Err())
		}
		wantLost(t, l)
	})
}

func TestResumeIsTriedUntilTheClusterAnswers(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake, s *Session) {
		l := mustLock(t, s, "a")
		f.with(func() {
			f.attach = func(a *raftlockv1.Attached) { a.Reason = raftlockv1.Reason_REASON_NO_QUORUM }
		})
		f.breakStream()
		time.Sleep(time.Minute)
		if !l.Valid() {
			t.Error("lost")
		}
	})
}

func TestClose(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake, s *Session) {
		l := mustLock(t, s, "a")
		f.strangerTakes("b")
		errs := make(chan error)
		go func() { _, err := s.Lock(context.Background(), "b"); errs <- err }()
		synctest.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		cancel() // the usual deferred close
		if err := s.Close(ctx); err != nil {
			t.Error(err)
		}
		if left := f.leftovers(); left != nil {
			t.Errorf("%v left", left)
		}
		if err := <-errs; !errors.Is(err, ErrSessionEnded) {
			t.Errorf("wait: %v", err)
		}
		if !closed(s.Done()) || !errors.Is(s.Err(), ErrSessionEnded) {
			t.Errorf("err: %v", s.Err())
		}
		wantLost(t, l)
		if _, err := s.Lock(t.Context(), "c"); !errors.Is(err, ErrSessionEnded) {
			t.Errorf("lock: %v", err)
		}
	})
}

func TestCloseOverABrokenStream(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake, s *Session) {
		mustLock(t, s, "a")
		f.with(func() { f.away = true })
		f.breakStream()
		time.AfterFunc(5*time.Second, func() { f.with(func() { f.away = false }) })
		if err := s.Close(t.Context()); err != nil || f.ended == 0 {
			t.Errorf("%v, ended %v", err, f.ended)
		}
	})
}

func TestCloseWithoutAnAgentIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		s := f.session()
		l := mustLock(t, s, "a")
		f.with(func() { f.away = true })
		f.breakStream()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		start := time.Now()
		var e *Error
		if err := s.Close(ctx); !errors.As(err, &e) || e.Applied != AppliedUnknown || time.Since(start) != graceMax {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		wantLost(t, l)
		if err := s.Close(t.Context()); err != nil {
			t.Errorf("again: %v", err)
		}
	})
}

func TestForkedChildHasNoPart(t *testing.T) {
	bubble(t, func(t *testing.T, f *fake, s *Session) {
		l := mustLock(t, s, "a")
		before := f.sent()
		getpid := s.cfg.getpid
		s.cfg.getpid = func() int { return s.pid + 1 }
		for name, try := range map[string]func() error{
			"lock":    func() error { _, err := s.Lock(t.Context(), "b"); return err },
			"try":     func() error { _, err := s.TryLock(t.Context(), "b"); return err },
			"set TTL": func() error { return s.SetTTL(t.Context(), time.Second) },
			"close":   func() error { return s.Close(t.Context()) },
			"unlock":  func() error { return l.Unlock(t.Context()) },
			"token":   func() error { _, err := l.Token(); return err },
		} {
			if err := try(); !errors.Is(err, ErrForked) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if l.Valid() {
			t.Error("valid in the child")
		}
		if !slices.Equal(f.sent(), before) {
			t.Errorf("sent %v", f.sent()[len(before):])
		}
		s.cfg.getpid = getpid
	})
}

func TestSessionsDiffer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, g := newFake(t), newFake(t)
		s, r := f.session(), g.session()
		if bytes.Equal(f.id, g.id) || bytes.Equal(f.secret, g.secret) {
			t.Error("two sessions share id or secret")
		}
		_, _ = s.Close(t.Context()), r.Close(t.Context())
	})
}

func TestRandIsUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		s := f.session(WithRand(bytes.NewReader(bytes.Repeat([]byte{7}, 48))))
		if !bytes.Equal(f.id, bytes.Repeat([]byte{7}, 16)) {
			t.Errorf("id %x", f.id)
		}
		f.breakStream() // jitter does without
		mustLock(t, s, "a")
		_ = s.Close(t.Context())
		if _, err := NewSession(t.Context(), WithDialer(f.dial), WithClock(f.host.now), WithRand(bytes.NewReader(nil))); err == nil {
			t.Error("a session without an id")
		}
	})
}

func TestLossIsLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		var log bytes.Buffer
		s := f.session(WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
		mustLock(t, s, "a")
		f.with(func() { f.silent = true })
		time.Sleep(DefaultTTL)
		synctest.Wait()
		if text := log.String(); !strings.Contains(text, "lock lost") || !strings.Contains(text, "lock=a token=1") {
			t.Errorf("logged %q", text)
		}
		_ = s.Close(t.Context())
	})
}

func TestBadOptions(t *testing.T) {
	for name, opt := range map[string]Option{
		"TTL":    WithTTL(TTLMin - 1),
		"socket": WithSocket(strings.Repeat("x", socketPathMax+1)),
	} {
		if _, err := Dial(t.Context(), opt); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
