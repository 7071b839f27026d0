package agent

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	cryptorand "crypto/rand"

	"github.com/hashicorp/raft"

	"github.com/raftlock/raftlock/agent/bootstrap"
	"github.com/raftlock/raftlock/consensus"
	"github.com/raftlock/raftlock/link"
	"github.com/raftlock/raftlock/link/linkpb"
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
	return made(t, cfg)
}

func made(t *testing.T, cfg Config) *Agent {
	t.Helper()
	a, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// hanging is a network that reaches nobody; while hold is not nil, a dial waits
// for it whatever its context says.
type hanging struct {
	mu   sync.Mutex
	hold chan struct{}
}

var errNobody = errors.New("nobody is there")

func (n *hanging) Ask(context.Context, string, *linkpb.Question) (*linkpb.Answer, error) {
	return nil, errNobody
}

func (n *hanging) Dial(context.Context, string, *linkpb.Hello) (link.UpConn, *linkpb.Welcome, error) {
	n.mu.Lock()
	hold := n.hold
	n.mu.Unlock()
	if hold != nil {
		<-hold
	}
	return nil, nil, errNobody
}

func (n *hanging) set(hold chan struct{}) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.hold = hold
}

// solo is a cluster of one voter.
func solo(t *testing.T, store *slowStore, network link.Network) *Agent {
	t.Helper()
	start := time.Now()
	cfg := Config{
		Name: "a", Address: "a:1", Incarnation: 1, Clock: func() time.Duration { return time.Since(start) },
		Wall: time.Now, Rand: cryptorand.Reader, Network: network, Gossip: crowd(nil), Store: store,
		Bootstrap: bootstrap.DefaultConfig(), Consensus: consensus.DefaultConfig(), Log: slog.New(slog.DiscardHandler),
		Open: func() (*Stores, error) {
			s := raft.NewInmemStore()
			return &Stores{Logs: s, Stable: s, Snapshots: raft.NewInmemSnapshotStore()}, nil
		},
		Transport: func(raft.ServerID) raft.Transport {
			_, t := raft.NewInmemTransport("a:1")
			return t
		},
	}
	cfg.Bootstrap.Expect = 1
	return made(t, cfg)
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

// Who is a member must write to be one, and must have a link like everybody.
func TestProgressOfAMember(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, network := &slowStore{files: map[string][]byte{}}, new(hanging)
		a := solo(t, store, network)
		stop := running(t, a)
		defer stop()
		for !a.Leading() {
			time.Sleep(time.Second)
		}
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

		hold = make(chan struct{})
		network.set(hold)
		time.Sleep(time.Second) // it dials
		for range 3 {
			if err := soon(a); !errors.Is(err, ErrNoProgress) || !strings.Contains(err.Error(), "router") {
				t.Errorf("the router hangs: %v", err)
			}
		}
		network.set(nil)
		close(hold)
		if err := soon(a); err != nil {
			t.Errorf("the router goes on: %v", err)
		}
	})
}

// A forwarder serves without its disk: a restart would cost its applications
// their holds, and hang again.
func TestHangingDiskStopsNoForwarder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &slowStore{files: map[string][]byte{}}
		start := time.Now()
		var out bytes.Buffer
		a := lonelyWith(t, store, func() time.Duration { return time.Since(start) }, slog.New(slog.NewTextHandler(&out, nil)))
		stop := running(t, a)
		defer stop()
		hold := make(chan struct{})
		store.set(func() { store.hold = hold })
		for range 5 {
			if err := soon(a); err != nil {
				t.Errorf("a forwarder whose disk hangs: %v", err)
			}
		}
		if n := strings.Count(out.String(), "does not answer"); n != 4 {
			t.Errorf("told %d times of the disk, want 4", n)
		}
		before := store.saves
		store.set(func() { store.hold = nil })
		close(hold)
		synctest.Wait()
		if n := store.saves - before; n != 1 {
			t.Errorf("%d writes waited for the disk", n)
		}
	})
}
