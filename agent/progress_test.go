package agent

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	cryptorand "crypto/rand"

	"github.com/raftlock/raftlock/agent/bootstrap"
	"github.com/raftlock/raftlock/consensus"
	"github.com/raftlock/raftlock/link"
)

// slowStore is a data directory whose writes wait while hold is not nil.
type slowStore struct {
	mu    sync.Mutex
	hold  chan struct{}
	fail  error
	files map[string][]byte
	saves int
}

func (s *slowStore) Load(key string) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.files[key], nil
}

func (s *slowStore) Save(key string, value []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if hold := s.hold; hold != nil {
		s.mu.Unlock()
		<-hold
		s.mu.Lock()
	}
	if key == progressKey {
		s.saves++
	}
	s.files[key] = value
	return s.fail
}

func (s *slowStore) set(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

// lonely is an agent that sees nobody and never votes.
func lonely(t *testing.T, store *slowStore, clock func() time.Duration) *Agent {
	t.Helper()
	return lonelyWith(t, store, clock, slog.New(slog.DiscardHandler))
}

func lonelyWith(t *testing.T, store *slowStore, clock func() time.Duration, log *slog.Logger) *Agent {
	t.Helper()
	cfg := Config{
		Name: "a", Address: "a:1", Incarnation: 1, Clock: clock, Wall: time.Now, Rand: cryptorand.Reader,
		Network: struct{ link.Network }{}, Gossip: crowd(nil), Store: store,
		Bootstrap: bootstrap.DefaultConfig(), Consensus: consensus.DefaultConfig(), Log: log,
	}
	cfg.Bootstrap.Forwarder = true
	a, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func running(t *testing.T, a *Agent) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	}
}

func soon(a *Agent) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	return a.Progress(ctx)
}

// What hangs keeps Progress from its answer, by name, and only while it hangs.
func TestProgressStopsWithItsParts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &slowStore{files: map[string][]byte{}}
		var mu sync.Mutex
		var clockHangs chan struct{}
		start := time.Now()
		a := lonely(t, store, func() time.Duration {
			mu.Lock()
			hangs := clockHangs
			mu.Unlock()
			if hangs != nil {
				<-hangs
			}
			return time.Since(start)
		})
		if err := soon(a); !errors.Is(err, ErrNoProgress) || !strings.Contains(err.Error(), "ticker") {
			t.Errorf("before Run: %v", err)
		}
		stop := running(t, a)
		defer stop()
		for range 3 {
			if err := soon(a); err != nil {
				t.Errorf("all is well: %v", err)
			}
		}

		hold := make(chan struct{})
		store.set(func() { store.hold = hold })
		for range 3 {
			if err := soon(a); !errors.Is(err, ErrNoProgress) || !strings.Contains(err.Error(), "disk") {
				t.Errorf("the disk hangs: %v", err)
			}
		}
		before := store.saves
		store.set(func() { store.hold = nil })
		close(hold)
		synctest.Wait()
		if n := store.saves - before; n != 1 {
			t.Errorf("%d questions waited for the disk", n)
		}

		hangs := make(chan struct{})
		mu.Lock()
		clockHangs = hangs
		mu.Unlock()
		if err := soon(a); !errors.Is(err, ErrNoProgress) || !strings.Contains(err.Error(), "ticker") {
			t.Errorf("the ticker hangs: %v", err)
		}
		mu.Lock()
		clockHangs = nil
		mu.Unlock()
		close(hangs)
		if err := soon(a); err != nil {
			t.Errorf("the ticker goes on: %v", err)
		}
	})
}

// A disk that says no has answered: who must write stops for it, not everybody.
func TestFullDiskIsNoHang(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &slowStore{files: map[string][]byte{}}
		start := time.Now()
		a := lonely(t, store, func() time.Duration { return time.Since(start) })
		stop := running(t, a)
		defer stop()
		store.set(func() { store.fail = errors.New("no space left") })
		if err := soon(a); err != nil {
			t.Error(err)
		}
	})
}
