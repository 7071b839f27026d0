package bench

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	raftlockv1 "github.com/raftlock/raftlock/api/raftlock/v1"
	"github.com/raftlock/raftlock/cmd/raftlock/internal/fakeagent"
	raftlock "github.com/raftlock/raftlock/sdk/go"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestQuantiles(t *testing.T) {
	var all, odd Latencies
	for i := 1; i <= 1000; i++ {
		l := &all
		if i%2 == 1 {
			l = &odd
		}
		l.Add(time.Duration(i) * time.Millisecond)
	}
	all.Merge(&odd)
	q := all.Quantiles()
	for _, c := range []struct {
		name      string
		got, want time.Duration
	}{{"p50", q.P50, 500 * time.Millisecond}, {"p90", q.P90, 900 * time.Millisecond}, {"p99", q.P99, 990 * time.Millisecond}} {
		if c.got < c.want || c.got > c.want+c.want/100 {
			t.Errorf("%s: %v, want %v and at most a hundredth more", c.name, c.got, c.want)
		}
	}
	if q.Count != 1000 || q.Max != time.Second || all.At(1) != time.Second {
		t.Errorf("%+v", q)
	}
}

func TestQuantilesOfFew(t *testing.T) {
	var l Latencies
	if q := l.Quantiles(); q != (Quantiles{}) {
		t.Errorf("%+v of none", q)
	}
	l.Add(3 * time.Second)
	if q := l.Quantiles(); q.P50 != 3*time.Second || q.P99 != 3*time.Second {
		t.Errorf("%+v of one", q)
	}
	l.Add(0)
	l.Add(100 * time.Hour) // above all buckets
	if q := l.Quantiles(); q.Max != 100*time.Hour || l.At(0) > time.Microsecond {
		t.Errorf("%+v", q)
	}
}

// arena is an agent and a configuration that ends by what was done, not by time.
func arena(t *testing.T) (*fakeagent.Agent, Config) {
	t.Helper()
	dir, err := os.MkdirTemp("", "rl") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket := filepath.Join(dir, "a.sock")
	a, err := fakeagent.Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	client, err := raftlock.Dial(t.Context(), raftlock.WithSocket(socket))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return a, Config{Open: func(ctx context.Context) (*raftlock.Session, error) { return client.Session(ctx) },
		Patience: 20 * time.Second, Workers: 4, Prefix: "b/", Duration: 20 * time.Second, Clock: fakeagent.Clock}
}

// ended is a context that ends when the agent has made so many grants.
func ended(t *testing.T, a *fakeagent.Agent, grants int) context.Context {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = a.Await(ctx, func(events []string) bool { return count(events, "grant") >= grants })
		cancel()
	}()
	t.Cleanup(func() { cancel(); <-done })
	return ctx
}

func count(events []string, what string) (n int) {
	for _, e := range events {
		if strings.HasPrefix(e, what) {
			n++
		}
	}
	return n
}

func TestRun(t *testing.T) {
	for _, c := range []struct {
		name    string
		contend bool
	}{{"each its own", false}, {"one for all", true}} {
		t.Run(c.name, func(t *testing.T) {
			a, cfg := arena(t)
			cfg.Contend = c.contend
			r, err := Run(ended(t, a, 200), cfg)
			if err != nil || r.Pairs == 0 || r.Acquire.Count != r.Pairs || r.Release.Count != r.Pairs || r.PairsPerSec <= 0 || r.Refused != 0 {
				t.Errorf("%+v, %v", r, err)
			}
			if c.contend != (r.HandOff.Count > 0) {
				t.Errorf("%d hand-offs", r.HandOff.Count)
			}
			events := a.Events()
			// A wait that is granted while it is cancelled is given back, and is no pair.
			g, rel := count(events, "grant"), count(events, "release")
			if g != rel || uint64(g) < r.Pairs || count(events, "end") != 4 {
				t.Errorf("%d grants, %d releases, %d pairs, %d sessions ended", g, rel, r.Pairs, count(events, "end"))
			}
			if on := count(events, "grant b/contended"); c.contend != (on == g && on > 0) {
				t.Errorf("%d of %d grants are of the one lock", on, g)
			}
		})
	}
}

func TestRunEndsByItsDuration(t *testing.T) {
	_, cfg := arena(t)
	cfg.Duration = 20 * time.Millisecond
	if r, err := Run(t.Context(), cfg); err != nil || r.Elapsed <= 0 {
		t.Errorf("%+v, %v", r, err)
	}
}

// What was measured before an error is told with it.
func TestRunEndsByAnError(t *testing.T) {
	a, cfg := arena(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = a.Await(ctx, func(events []string) bool { return count(events, "release") >= 100 })
		a.EndSessions()
	}()
	defer func() { cancel(); <-done }()
	r, err := Run(t.Context(), cfg)
	if !errors.Is(err, raftlock.ErrSessionEnded) && !errors.Is(err, raftlock.ErrLost) || r.Pairs == 0 {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestRunWithoutSessions(t *testing.T) {
	a, cfg := arena(t)
	open, opened := cfg.Open, atomic.Int32{}
	broken := errors.New("no more sessions")
	cfg.Open = func(ctx context.Context) (*raftlock.Session, error) {
		if opened.Add(1) == 3 {
			return nil, broken
		}
		return open(ctx)
	}
	if r, err := Run(t.Context(), cfg); !errors.Is(err, broken) || r.Pairs != 0 {
		t.Errorf("%+v, %v", r, err)
	}
	if events := a.Events(); count(events, "open") != 3 || count(events, "end") != 3 {
		t.Errorf("%q", events)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if r, err := Run(ctx, cfg); err != nil || r.Pairs != 0 {
		t.Errorf("interrupted: %+v, %v", r, err)
	}
}

// Who is refused for load goes on, more slowly, and says so.
func TestRunIsRefused(t *testing.T) {
	a, cfg := arena(t)
	a.Refuse(raftlockv1.Reason_REASON_RATE_LIMITED)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = a.Await(ctx, func(events []string) bool { return count(events, "refuse") >= 20 })
		a.Refuse(raftlockv1.Reason_REASON_UNSPECIFIED)
		_ = a.Await(ctx, func(events []string) bool { return count(events, "release") >= 20 })
		cancel()
	}()
	defer func() { cancel(); <-done }()
	if r, err := Run(ctx, cfg); err != nil || r.Refused < 20 || r.Pairs == 0 {
		t.Errorf("%+v, %v", r, err)
	}
}

// What no pause mends ends it.
func TestRunIsDenied(t *testing.T) {
	a, cfg := arena(t)
	a.Refuse(raftlockv1.Reason_REASON_DENIED)
	if r, err := Run(t.Context(), cfg); !errors.Is(err, raftlock.ErrDenied) || r.Pairs != 0 {
		t.Errorf("%+v, %v", r, err)
	}
}
