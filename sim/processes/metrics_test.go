package processes

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// fixed are the names that design section 10 fixes.
var fixed = []string{
	"lock_acquire_total", "lock_release_total", "lock_renew_total", "lock_active_count",
	"raft_term", "raft_state", "raft_commit_index", "raft_election_count",
}

// scraped are the series of one agent's /metrics, as they are written.
type scraped map[string]float64

// http asks on the application socket.
func (a *agent) http(method, path, body string) (text string, status int, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), askTime)
	defer cancel()
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", a.socket)
	}}
	defer transport.CloseIdleConnections()
	r, err := http.NewRequestWithContext(ctx, method, "http://localhost"+path, strings.NewReader(body))
	if err != nil {
		return "", 0, err
	}
	r.Header.Set("Content-Type", "application/json")
	answer, err := (&http.Client{Transport: transport}).Do(r)
	if err != nil {
		return "", 0, err
	}
	defer func() { _ = answer.Body.Close() }()
	out, err := io.ReadAll(answer.Body)
	return string(out), answer.StatusCode, err
}

func (a *agent) scrape() (scraped, error) {
	text, status, err := a.http(http.MethodGet, "/metrics", "")
	if err != nil || status != http.StatusOK {
		return nil, fmt.Errorf("%d: %.200s, %w", status, text, err)
	}
	out := make(scraped)
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		space := strings.LastIndexByte(line, ' ') // labels may have some too
		if space < 0 || line[0] == '#' {
			continue
		}
		if v, err := strconv.ParseFloat(line[space+1:], 64); err == nil {
			out[line[:space]] = v
		}
	}
	return out, nil
}

// scrapes are those of every agent that is up, by name.
type scrapes map[string]scraped

func (c *cluster) scrape() scrapes {
	c.t.Helper()
	out := make(scrapes)
	for _, a := range c.agents {
		if !a.up() {
			continue
		}
		s, err := a.scrape()
		if err != nil {
			c.t.Fatalf("/metrics of %s: %v", a.name, err)
		}
		out[a.name] = s
	}
	return out
}

// sum is a series of the whole cluster.
func (s scrapes) sum(series string) (sum float64) {
	for _, agent := range s {
		sum += agent[series]
	}
	return sum
}

// print shows the fixed names of all agents, before and after.
func (s scrapes) print(t testing.TB, what string, before scrapes) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(s)) {
		for _, series := range slices.Sorted(maps.Keys(s[name])) {
			bare, _, _ := strings.Cut(series, "{")
			was, is := before[name][series], s[name][series]
			if slices.Contains(fixed, bare) && was != is {
				t.Logf("%s, %s: %s %v -> %v", what, name, series, was, is)
			}
		}
	}
}

// story is one step of a scripted load, and by how much it moves series: at one
// agent, and in the whole cluster by no more.
type story struct {
	name string
	do   func()
	at   *agent
	by   map[string]float64
}

func (c *cluster) play(s story) {
	c.t.Helper()
	before := c.scrape()
	s.do()
	var after scrapes
	until(c.t, 10*time.Second, s.name+" is counted", func() error {
		after = c.scrape()
		for series, by := range s.by {
			if got := after[s.at.name][series] - before[s.at.name][series]; got != by {
				return fmt.Errorf("%s of %s moved by %v, want %v", series, s.at.name, got, by)
			}
			if got := after.sum(series) - before.sum(series); got != by {
				return fmt.Errorf("%s of the cluster moved by %v, want %v", series, got, by)
			}
		}
		return nil
	})
	after.print(c.t, s.name, before)
}

// The fixed names move as design section 10 says, at three voters and a
// forwarder: counters at the agent whose application did it, so that sums are
// true; raft_* at members alone.
func TestMetricsOfACluster(t *testing.T) {
	c := formed(t, plan{agents: 4, expect: 3})
	r := c.roles()
	if len(r.forwarders) != 1 {
		t.Fatalf("roles: %+v", r)
	}
	at := r.forwarders[0]
	first, second := at.application().open(30*time.Second), r.voters[0].application().open(5*time.Second)
	c.play(story{"an acquire", func() { first.lock("m") }, at, map[string]float64{granted: 1, active: 1}})
	c.play(story{"a try of what is held", func() {
		if a := second.ask(order{Do: "lock", Lock: "m", Try: true}); a.Failure == nil {
			t.Fatal("granted twice")
		}
	}, r.voters[0], map[string]float64{`lock_acquire_total{outcome="held"}`: 1, active: 0}})
	handOff(c, first, second)
	renewals(c, r.voters[0])
	c.play(story{"a kill", func() { second.kill() }, r.voters[0], map[string]float64{
		`lock_release_total{how="session_ended"}`: 1, active: -1, "raftlock_sessions": -1,
	}})
	plainThroughTwo(c, at, r.voters[0])
	raftNumbers(c, r)
}

const (
	granted  = `lock_acquire_total{outcome="granted"}`
	released = `lock_release_total{how="released"}`
	active   = "lock_active_count"
)

// handOff has one wait for what the other holds and releases: each agent counts
// what its own application did.
func handOff(c *cluster, holder, next *application) {
	c.t.Helper()
	var waiting <-chan answer
	c.play(story{"a wait", func() { waiting = next.wait("m", 1) }, next.at, map[string]float64{"raftlock_waiters": 1, active: 0}})
	before := c.scrape()
	holder.must(order{Do: "unlock", Lock: "m"})
	c.good(waiting, "the wait")
	until(c.t, 10*time.Second, "the hand-off is counted where each was asked", func() error {
		after := c.scrape()
		for _, want := range []struct {
			at     *agent
			series string
			by     float64
		}{
			{holder.at, released, 1}, {holder.at, active, -1}, {holder.at, granted, 0},
			{next.at, released, 0}, {next.at, active, 1}, {next.at, granted, 1}, {next.at, "raftlock_waiters", -1},
		} {
			if got := after[want.at.name][want.series] - before[want.at.name][want.series]; got != want.by {
				return fmt.Errorf("%s of %s moved by %v, want %v", want.series, want.at.name, got, want.by)
			}
		}
		after.print(c.t, "a hand-off", before)
		return nil
	})
}

// renewals waits until one is counted at the agent whose session holds, and at
// no other.
func renewals(c *cluster, at *agent) {
	c.t.Helper()
	before := c.scrape()
	until(c.t, 20*time.Second, "renewals are counted", func() error {
		after := c.scrape()
		moved := after[at.name]["lock_renew_total"] - before[at.name]["lock_renew_total"]
		if moved < 3 {
			return fmt.Errorf("%v so far", moved)
		}
		if all := after.sum("lock_renew_total") - before.sum("lock_renew_total"); all != moved {
			c.t.Errorf("%v renewals in the cluster, %v at the agent whose session holds", all, moved)
		}
		after.print(c.t, "renewals", before)
		return nil
	})
}

// plainThroughTwo has one owner ask through two agents: one grant, one renewal.
func plainThroughTwo(c *cluster, one, other *agent) {
	c.t.Helper()
	post := func(a *agent, what string) func() {
		return func() {
			body := `{"key":"p","owner":"me","ttl":"6s"}`
			if text, status, err := a.http(http.MethodPost, "/locks/"+what, body); err != nil || status != http.StatusOK {
				c.t.Fatalf("%s through %s: %d %s, %v", what, a.name, status, text, err)
			}
		}
	}
	for _, s := range []story{
		{"a plain acquire", post(one, "acquire"), one, map[string]float64{
			granted: 1, active: 1, "lock_renew_total": 0, `raftlock_rpc_total{code="200",rpc="POST /locks/acquire"}`: 1,
		}},
		{"the same through another agent", post(other, "acquire"), other, map[string]float64{"lock_renew_total": 1, granted: 0}},
		{"a plain release", post(other, "release"), other, map[string]float64{released: 1}},
	} {
		c.play(s)
	}
	// The first agent is not told of the release: it counts until its V.
	until(c.t, 20*time.Second, "no plain hold is counted any more", func() error {
		if n := c.scrape().sum(active); n != 0 {
			return fmt.Errorf("%v holds", n)
		}
		return nil
	})
}

// raftNumbers looks at raft_* and then kills the leader.
func raftNumbers(c *cluster, r roles) {
	c.t.Helper()
	before := c.scrape()
	for series := range before[r.forwarders[0].name] {
		if strings.HasPrefix(series, "raft_") {
			c.t.Errorf("%s on a forwarder", series)
		}
	}
	if before[r.leader.name]["raft_state"] != 2 || before.sum("raft_state") != 2 {
		c.t.Errorf("raft_state is not 2 at the leader and 0 elsewhere: %v", before.sum("raft_state"))
	}
	term := before[r.leader.name]["raft_term"]
	r.leader.proc.kill()
	until(c.t, formTime, "another leader is seen in the numbers", func() error {
		after := c.scrape()
		for _, v := range r.voters {
			if got := after[v.name]; got["raft_term"] <= term || got["raft_commit_index"] <= before[v.name]["raft_commit_index"] {
				return fmt.Errorf("%s: term %v after %v, commit index %v", v.name, got["raft_term"], term, got["raft_commit_index"])
			}
		}
		if after.sum("raft_state") != 2 {
			return fmt.Errorf("states sum to %v", after.sum("raft_state"))
		}
		stood := func(s scrapes) float64 {
			return s[r.voters[0].name]["raft_election_count"] + s[r.voters[1].name]["raft_election_count"]
		}
		if stood(after) <= stood(before) {
			return fmt.Errorf("nobody stood: %v", stood(after))
		}
		after.print(c.t, "the leader's kill", before)
		return nil
	})
}
