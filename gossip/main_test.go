package gossip

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/serf/serf"
	"go.uber.org/goleak"
)

// TestMain looks for goroutines left behind with more patience than goleak has
// by itself: memberlist's last probe, which Shutdown does not wait for, lasts up
// to eight of its intervals.
func TestMain(m *testing.M) {
	code := m.Run()
	if code == 0 {
		var left error
		for deadline := time.Now().Add(soon); ; {
			if left = goleak.Find(); left == nil || time.Now().After(deadline) {
				break
			}
		}
		if left != nil {
			fmt.Fprintln(os.Stderr, left)
			code = 1
		}
	}
	os.Exit(code)
}

// soon is how long a test waits for what must come; most come in a fraction.
const soon = 20 * time.Second

// net is this process's own part of loopback, so that two runs do not meet.
var loopback = fmt.Sprintf("127.%d", 64+os.Getpid()%128)

var nextHost atomic.Uint32

// newIP is an address that no other agent of this run has.
func newIP() string {
	n := nextHost.Add(1)
	return fmt.Sprintf("%s.%d.%d", loopback, n/250, 1+n%250)
}

// journal is a log that tests read.
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (j *journal) Write(line []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(line)
}

// count is the number of lines that have all words.
func (j *journal) count(words ...string) int {
	j.mu.Lock()
	defer j.mu.Unlock()
	n := 0
lines:
	for line := range strings.Lines(j.text.String()) {
		for _, word := range words {
			if !strings.Contains(line, word) {
				continue lines
			}
		}
		n++
	}
	return n
}

func (j *journal) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(j, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

var incarnations atomic.Uint64

func testConfig(name, ip string, join ...string) Config {
	c := DefaultConfig()
	c.Name, c.Incarnation = name, incarnations.Add(1)<<32|0xabc
	c.Bind, c.Port = ip, 0
	c.PeerAddress = ip + ":7950"
	c.Join = join
	c.Log = slog.New(slog.DiscardHandler)
	c.JoinRetryMin, c.JoinRetryAlone, c.JoinRetryMax, c.JoinCheck = 50*time.Millisecond, 200*time.Millisecond, 500*time.Millisecond, time.Second
	c.LeaveTimeout = 800 * time.Millisecond
	return c
}

// faster keeps LAN's proportions.
func faster(c *serf.Config) {
	c.ReapInterval, c.ReconnectInterval = 500*time.Millisecond, time.Second
	m := c.MemberlistConfig
	m.ProbeInterval, m.ProbeTimeout = 250*time.Millisecond, 125*time.Millisecond
	m.GossipInterval, m.PushPullInterval = 50*time.Millisecond, 2*time.Second
}

// A runner is a Pool that runs.
type runner struct {
	*Pool
	t       testing.TB
	sockets *transport
	cancel  context.CancelFunc
	done    chan struct{}
	err     error
}

// run starts a pool and waits until others can join it.
func run(t testing.TB, c Config) *runner {
	t.Helper()
	r := newRunner(t, c)
	r.start()
	return r
}

func newRunner(t testing.TB, c Config) *runner {
	t.Helper()
	pool, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	r := &runner{Pool: pool, t: t, done: make(chan struct{})}
	pool.refresh = 200 * time.Millisecond
	pool.tune = func(c *serf.Config) {
		faster(c)
		r.sockets = c.MemberlistConfig.Transport.(*transport)
	}
	return r
}

func (r *runner) start() {
	r.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel = cancel
	go func() {
		defer close(r.done)
		r.err = r.Run(ctx)
	}()
	r.t.Cleanup(r.leave)
	select {
	case <-r.Ready():
	case <-r.done:
		r.t.Fatalf("%s did not start: %v", r.cfg.Name, r.err)
	case <-time.After(soon):
		r.t.Fatalf("%s is not ready", r.cfg.Name)
	}
}

// leave ends Run, politely.
func (r *runner) leave() {
	r.cancel()
	select {
	case <-r.done:
	case <-time.After(soon):
		r.t.Errorf("%s does not end", r.cfg.Name)
	}
	if r.err != nil {
		r.t.Errorf("%s ended with %v", r.cfg.Name, r.err)
	}
}

// crash takes the sockets away: no goodbye can be said.
func (r *runner) crash() {
	r.sockets.Shutdown()
	r.leave()
}

// await waits until ok is true of what r knows.
func (r *runner) await(what string, ok func([]Member) bool) {
	r.t.Helper()
	deadline := time.After(soon)
	for {
		changed := r.Changed()
		members := r.Members()
		if ok(members) {
			return
		}
		select {
		case <-changed:
		case <-deadline:
			r.t.Fatalf("%s does not see %s but %+v", r.cfg.Name, what, members)
		}
	}
}

// sees waits until r tells exactly these agents as alive.
func (r *runner) sees(names ...string) {
	r.t.Helper()
	r.await(fmt.Sprint(names), func(members []Member) bool {
		var alive []string
		for _, m := range members {
			if m.Alive {
				alive = append(alive, m.Name)
			}
		}
		return strings.Join(alive, " ") == strings.Join(names, " ")
	})
}

func find(members []Member, name string) Member {
	for _, m := range members {
		if m.Name == name {
			return m
		}
	}
	return Member{}
}

// eventually polls what no Changed tells of.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(soon)
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("not within time: " + what)
		}
	}
}
