package daemon

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	api "github.com/raftlock/raftlock/api/raftlock/v1"
	raftlock "github.com/raftlock/raftlock/sdk/go"
	"github.com/raftlock/raftlock/telemetry"
)

// numbers are the series of a scrape by name and labels, as they are written.
type numbers map[string]float64

// scrape reads /metrics over the application socket.
func scrape(t *testing.T, socket string) numbers {
	t.Helper()
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}
	defer transport.CloseIdleConnections()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://localhost/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	a, err := (&http.Client{Transport: transport}).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = a.Body.Close() }()
	text, err := io.ReadAll(a.Body)
	if err != nil || a.StatusCode != http.StatusOK {
		t.Fatalf("/metrics: %s, %v: %s", a.Status, err, text)
	}
	out := make(numbers)
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		space := strings.LastIndexByte(line, ' ') // labels may have some too
		if space < 0 || line[0] == '#' {
			continue
		}
		if v, err := strconv.ParseFloat(line[space+1:], 64); err == nil {
			out[line[:space]] = v
		}
	}
	return out
}

// moved waits until the series have moved by so much since before, and all
// others of the fixed names by nothing.
func moved(t *testing.T, socket string, before numbers, by map[string]float64) {
	t.Helper()
	want := make(map[string]float64)
	for name, v := range before {
		if strings.HasPrefix(name, "lock_acquire_total") || strings.HasPrefix(name, "lock_release_total") || name == "lock_active_count" {
			want[name] = v
		}
	}
	for name, d := range by {
		want[name] = before[name] + d
	}
	var got numbers
	ok := func() bool {
		got = scrape(t, socket)
		for name, v := range want {
			if got[name] != v {
				return false
			}
		}
		return true
	}
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	for late := time.After(10 * time.Second); !ok(); {
		select {
		case <-poll.C:
		case <-late:
			for name, v := range want {
				if got[name] != v {
					t.Errorf("%s is %v, want %v", name, got[name], v)
				}
			}
			t.FailNow()
		}
	}
	t.Logf("moved as they should: %v", by)
}

// Each of the fixed names moves as design section 10 says, at an agent alone.
func TestMetricsMove(t *testing.T) {
	for _, name := range []string{"OTEL_TRACES_EXPORTER", "OTEL_METRICS_EXPORTER"} {
		t.Setenv(name, "none")
	}
	o := alone(t)
	tel, err := telemetry.Setup(t.Context(), telemetry.Config{Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tel.Shutdown(context.Background()) }()
	o.Telemetry = tel
	ctx := within(t)
	defer start(t, o)()
	a, err := raftlock.NewSession(ctx, raftlock.WithSocket(o.Socket), raftlock.WithTTL(5*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	b, err := raftlock.NewSession(ctx, raftlock.WithSocket(o.Socket))
	if err != nil {
		t.Fatal(err)
	}
	was := scrape(t, o.Socket)
	t.Run("raft of one voter", func(t *testing.T) {
		for name, want := range map[string]float64{
			"raft_state": 2, "raft_election_count": 1, `raftlock_role{role="voter"}`: 1, `raftlock_role{role="forwarder"}`: 0,
			"raftlock_sessions": 2, "lock_active_count": 0,
		} {
			if was[name] != want {
				t.Errorf("%s is %v, want %v", name, was[name], want)
			}
		}
		if was["raft_term"] < 2 || was["raft_commit_index"] == 0 {
			t.Errorf("term %v, commit index %v", was["raft_term"], was["raft_commit_index"])
		}
	})
	held, err := a.Lock(ctx, "x")
	if err != nil {
		t.Fatal(err)
	}
	moved(t, o.Socket, was, map[string]float64{`lock_acquire_total{outcome="granted"}`: 1, "lock_active_count": 1})
	is := scrape(t, o.Socket)
	if is["raft_commit_index"] <= was["raft_commit_index"] {
		t.Error("raft_commit_index does not rise")
	}

	was = is
	if _, err := b.TryLock(ctx, "x"); !errors.Is(err, raftlock.ErrHeld) {
		t.Fatalf("held by another session: %v", err)
	}
	moved(t, o.Socket, was, map[string]float64{`lock_acquire_total{outcome="held"}`: 1})

	was = scrape(t, o.Socket)
	waiting := make(chan *raftlock.Lock, 1)
	failed := make(chan error, 1)
	go func() {
		h, err := b.Lock(ctx, "x")
		waiting <- h
		failed <- err
	}()
	moved(t, o.Socket, was, map[string]float64{"raftlock_waiters": 1, `raftlock_acquire_duration_seconds_count{outcome="queued"}`: 1})
	if err := held.Unlock(ctx); err != nil {
		t.Fatal(err)
	}
	second, err := <-waiting, <-failed
	if err != nil {
		t.Fatal(err)
	}
	moved(t, o.Socket, was, map[string]float64{
		`lock_acquire_total{outcome="granted"}`: 1, `lock_release_total{how="released"}`: 1, "raftlock_waiters": 0,
		`raftlock_wait_duration_seconds_count{outcome="granted"}`: 1, `raftlock_hold_duration_seconds_count{how="released"}`: 1,
	})

	was = scrape(t, o.Socket)
	gaveUp, cancel := context.WithCancel(ctx)
	go func() {
		_, err := a.Lock(gaveUp, "x")
		failed <- err
	}()
	moved(t, o.Socket, was, map[string]float64{"raftlock_waiters": 1})
	cancel()
	if err := <-failed; err == nil {
		t.Fatal("granted twice")
	}
	moved(t, o.Socket, was, map[string]float64{`lock_acquire_total{outcome="cancelled"}`: 1, "raftlock_waiters": 0})

	was = scrape(t, o.Socket)
	renewals := func() bool { return scrape(t, o.Socket)["lock_renew_total"] > was["lock_renew_total"] }
	poll := time.NewTicker(50 * time.Millisecond)
	defer poll.Stop()
	for late := time.After(20 * time.Second); !renewals(); {
		select {
		case <-poll.C:
		case <-late:
			t.Fatal("no renewal of a session that holds is counted")
		}
	}
	if got := scrape(t, o.Socket); got["raftlock_renew_duration_seconds_count"] == 0 || got["raftlock_commit_duration_seconds_count"] == 0 {
		t.Error("heartbeats or commits are not timed")
	}

	was = scrape(t, o.Socket)
	_ = second
	if err := b.Close(ctx); err != nil {
		t.Fatal(err)
	}
	moved(t, o.Socket, was, map[string]float64{
		`lock_release_total{how="session_ended"}`: 1, "lock_active_count": -1, "raftlock_sessions": -1,
		`raftlock_rpc_total{code="OK",rpc="raftlock.v1.RaftLock/Session"}`: 1,
	})
	plainMoves(t, o.Socket)
	if err := a.Close(ctx); err != nil {
		t.Fatal(err)
	}
}

// plainMoves does the same with plain requests, after whose last hold no session
// of this agent holds anything.
func plainMoves(t *testing.T, socket string) {
	t.Helper()
	conn, err := grpc.NewClient("unix:"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	c := api.NewRaftLockClient(conn)
	acquire := func(owner string) error {
		_, err := c.Acquire(t.Context(), &api.AcquireRequest{Lock: "plain", Owner: owner})
		return err
	}
	for _, step := range []struct {
		name string
		do   func() error
		fail bool
		by   map[string]float64
	}{
		{"acquire", func() error { return acquire("me") }, false, map[string]float64{
			`lock_acquire_total{outcome="granted"}`: 1, "lock_active_count": 1, "lock_renew_total": 0,
			`raftlock_rpc_total{code="OK",rpc="raftlock.v1.RaftLock/Acquire"}`: 1,
		}},
		{"acquire by the holder", func() error { return acquire("me") }, false, map[string]float64{"lock_renew_total": 1}},
		{"acquire by another", func() error { return acquire("you") }, true, map[string]float64{
			`lock_acquire_total{outcome="held"}`: 1,
		}},
		{"renew", func() error {
			_, err := c.Renew(t.Context(), &api.RenewRequest{Lock: "plain", Owner: "me"})
			return err
		}, false, map[string]float64{"lock_renew_total": 1}},
		{"release", func() error {
			_, err := c.Release(t.Context(), &api.ReleaseRequest{Lock: "plain", Owner: "me"})
			return err
		}, false, map[string]float64{`lock_release_total{how="released"}`: 1, "lock_active_count": -1}},
		{"release once more", func() error {
			_, err := c.Release(t.Context(), &api.ReleaseRequest{Lock: "plain", Owner: "me"})
			return err
		}, true, nil},
	} {
		was := maps.Clone(scrape(t, socket))
		if err := step.do(); (err != nil) != step.fail {
			t.Fatalf("%s: %v", step.name, err)
		}
		moved(t, socket, was, step.by)
	}
}
