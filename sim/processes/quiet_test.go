package processes

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"
)

const (
	quietTTL  = 4 * time.Second
	locksEach = 10
)

// Many sessions are renewed through one agent for a while, and nothing enters
// the log. Then some of their processes are stopped: exactly those sessions end.
func TestQuietRenewalsAndStoppedProcesses(t *testing.T) {
	sessions, few := number(t, "RAFTLOCK_SESSIONS", 100), 5
	if sessions >= 1000 {
		few = 50
	}
	c := usual(t)
	r := c.roles()
	at := r.forwarders[0]
	// Half of the lone processes are stopped later; one process has the rest.
	var lone []*application
	for n := range 2 * few {
		a := at.application()
		a.must(order{Do: "crowd", TTL: quietTTL, Session: fmt.Sprintf("quiet-lone%d", n), Count: 1, Each: locksEach})
		lone = append(lone, a)
	}
	crowd := at.application()
	crowd.must(order{Do: "crowd", TTL: quietTTL, Session: "quiet-crowd", Count: sessions - len(lone), Each: locksEach, Patience: patience})
	pass(2 * time.Second) // acknowledgements may still be on their way
	all := quiet(t, r, at, sessions)

	stopped := clock()
	var gone []string
	for n, a := range lone[:few] {
		a.proc.stop(t)
		for m := range locksEach {
			gone = append(gone, fmt.Sprintf("quiet-lone%d-0/%d", n, m))
		}
	}
	var left map[string]string
	until(t, 135*quietTTL/100+slack, "the stopped processes' sessions end", func() error {
		now, _, err := at.list("quiet-")
		left = map[string]string{}
		for name, l := range now {
			left[name] = l.Session
		}
		if err == nil && len(left) > len(all)-len(gone) {
			err = fmt.Errorf("%d locks are left of %d; %d belong to stopped processes", len(left), len(all), len(gone))
		}
		return err
	})
	figure(t, "%d stopped processes' sessions of TTL %s had all ended after %s", few, quietTTL, (clock() - stopped).Round(10*time.Millisecond))
	pass(2 * time.Second) // long enough for others to go too
	now, _, err := at.list("quiet-")
	must(t, err)
	for _, name := range gone {
		delete(all, name)
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if now[name].Session != all[name] {
			t.Errorf("%s was of session %s, and is of %q: its process was not stopped", name, all[name], now[name].Session)
		}
		delete(now, name)
	}
	for name := range now {
		t.Errorf("%s is still held by a stopped process", name)
	}
	if alive := crowd.must(order{Do: "alive"}).Alive; alive != (sessions-len(lone))*locksEach {
		t.Errorf("the crowd has %d valid handles of %d", alive, (sessions-len(lone))*locksEach)
	}
	for n, a := range lone[few:] {
		if alive := a.must(order{Do: "alive"}).Alive; alive != locksEach {
			t.Errorf("process %d, never stopped, has %d valid handles of %d", few+n, alive, locksEach)
		}
	}
}

// quiet tells the sessions of all locks, after a while in which the log stood
// still and every one of them was renewed.
func quiet(t *testing.T, r roles, at *agent, sessions int) map[string]string {
	t.Helper()
	before, from, err := at.list("quiet-")
	must(t, err)
	if len(before) != sessions*locksEach {
		t.Fatalf("%d locks are held, not %d", len(before), sessions*locksEach)
	}
	began, agentUsed, leaderUsed := clock(), at.proc.cpu(t), r.leader.proc.cpu(t)
	pass(span(t, "RAFTLOCK_QUIET", quietTTL+2*time.Second))
	took, agentUsed, leaderUsed := clock()-began, at.proc.cpu(t)-agentUsed, r.leader.proc.cpu(t)-leaderUsed
	after, to, err := at.list("quiet-")
	must(t, err)
	if to != from {
		t.Errorf("the log's last index went from %d to %d while nothing but renewals happened", from, to)
	}
	all := map[string]string{}
	for name, l := range before {
		all[name] = l.Session
		if now := after[name]; now.Token != l.Token {
			t.Errorf("%s: token %d became %d", name, l.Token, now.Token)
		}
	}
	percent := func(d time.Duration) float64 { return 100 * d.Seconds() / took.Seconds() }
	figure(t, "%d sessions with %d locks each renewed for %s: %d log entries; CPU of their agent %.1f%%, of the leader %.1f%% of a core",
		sessions, locksEach, took.Round(time.Millisecond), to-from, percent(agentUsed), percent(leaderUsed))
	return all
}
