package bootstrap

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestRandomSchedules starts pools under kills, restarts, cuts, differing views,
// lost, repeated and late messages, and crashes around saves. The number of
// schedules is RAFTLOCK_SCHEDULES, the first seed RAFTLOCK_SEED.
func TestRandomSchedules(t *testing.T) {
	schedules := number(t, "RAFTLOCK_SCHEDULES", 200)
	first := number(t, "RAFTLOCK_SEED", 1)
	total, slowest := make(map[string]int), 0
	for seed := first; seed < first+schedules && !t.Failed(); seed++ {
		synctest.Test(t, func(t *testing.T) {
			for what, n := range schedule(t, uint64(seed)) {
				total[what] += n
				if what == "seconds to heal" {
					slowest = max(slowest, n)
				}
			}
		})
		if t.Failed() {
			t.Logf("again: RAFTLOCK_SCHEDULES=1 RAFTLOCK_SEED=%d", seed)
		}
	}
	exercised := []string{"stood", "founded", "promises", "refusals", "abandons", "kills", "restarts", "cuts", "links cut", "partitions", "late", "wipes", "forgotten", "frames struck", "founders killed", "two clusters"}
	for _, what := range exercised {
		t.Logf("%-16s %d", what, total[what])
	}
	t.Logf("slowest from healed to decided: %d s of %s", slowest, afterHeal)
	if schedules < 100 || t.Failed() {
		return
	}
	for what, least := range map[string]int{
		"stood": schedules, "abandons": schedules / 5, "refusals": schedules / 2, "restarts": schedules,
		"partitions": schedules, "frames struck": schedules, "links cut": schedules, "late": schedules, "founders killed": schedules / 4, "wipes": schedules / 20, "forgotten": schedules / 20,
	} {
		if total[what] < least {
			t.Errorf("%s: %d, want at least %d: the schedules are too tame", what, total[what], least)
		}
	}
}

func number(t *testing.T, variable string, otherwise int) int {
	text := os.Getenv(variable)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("%s: %v", variable, err)
	}
	return n
}

// schedule runs one pool through a minute of trouble, heals it, and looks.
func schedule(t *testing.T, seed uint64) map[string]int {
	rng := rand.New(rand.NewPCG(seed, 2))
	shapes := []shape{
		{expect: 3, agents: 3}, {expect: 3, agents: 4}, {expect: 3, agents: 4}, {expect: 5, agents: 5}, {expect: 5, agents: 6},
		{expect: 5, agents: 7}, {expect: 5, agents: 8}, {expect: 3, agents: 7}, {expect: 3, agents: 8}, {expect: 3, agents: 7, initial: true}, {expect: 5, agents: 7, initial: true},
	}
	s := shapes[rng.IntN(len(shapes))]
	w := newWorld(t, fmt.Sprintf("seed %d, %s", seed, s), seed)
	defer w.stop()
	w.lose, w.late, w.crash = 0.25*rng.Float64(), 0.2, 0.2*rng.Float64()
	if rng.IntN(2) == 0 {
		w.slow = 1500 * time.Millisecond
	}
	// A wiped host counts as one more fresh agent.
	w.mayWipe = s.agents+1 < 2*s.expect && rng.IntN(3) == 0
	w.hook = w.frames(0.1 * rng.Float64())
	s.people(w, rng)
	if rng.IntN(4) > 0 {
		w.partition(rng)
	}
	w.gossips()
	// Much trouble keeps all from standing; little lets them finish.
	pace := []int{2500, 6000, 12_000}[rng.IntN(3)]
	for end := time.Now().Add(time.Duration(30+rng.IntN(60)) * time.Second); time.Now().Before(end); {
		time.Sleep(time.Duration(rng.IntN(pace)) * time.Millisecond)
		w.trouble(rng)
	}
	w.heal()
	healed := time.Now()
	settled := w.settleWithOperator(afterHeal)
	if clusters := w.clusters(); len(clusters) > 1 && s.agents >= 2*s.expect && !s.initial {
		// Cut in two before the first start. They share nobody, which was checked.
		w.note("two clusters", 1)
		return w.count
	}
	w.note("seconds to heal", int(time.Since(healed)/time.Second))
	w.mustBeOne(settled)
	return w.count
}

func (w *world) note(what string, n int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.count[what] += n
}

// people adds the hosts, which start within some seconds.
func (s shape) people(w *world, rng *rand.Rand) {
	names := hostNames(s.agents)
	initial := slices.Clone(names)
	rng.Shuffle(len(initial), func(i, j int) { initial[i], initial[j] = initial[j], initial[i] })
	forwarder := -1
	if s.agents > s.expect && rng.IntN(3) == 0 && !s.initial {
		forwarder = rng.IntN(s.agents)
	}
	for i, name := range names {
		h := w.add(name, s.expect)
		h.forwarder = i == forwarder
		if s.initial {
			h.initial = initial[:s.expect]
		}
		after := time.Duration(rng.IntN(6000)) * time.Millisecond
		w.group.Go(func() { time.Sleep(after); w.start(h) })
	}
}

// frames returns a hook that strikes a party of an event with some chance.
func (w *world) frames(chance float64) func(event) {
	return func(e event) {
		w.mu.Lock()
		// crash is cleared when the world is healed.
		strike := w.crash > 0 && w.rng.Float64() < chance
		party := e.parties[w.rng.IntN(len(e.parties))]
		fault := []string{"kill", "restart", "cut"}[w.rng.IntN(3)]
		if len(e.parties) == 2 && w.crash > 0 && w.rng.Float64() < 3*chance && strings.HasPrefix(e.what, "request promise") {
			// Longer than a founder's patience: others come in between.
			w.apartLocked(pairOf(e.parties[0], e.parties[1]), time.Duration(5+w.rng.IntN(25))*time.Second)
		}
		if strike {
			w.count["frames struck"]++
			if h := w.hosts[party]; h.disk.record().standing() != nil && fault != "cut" {
				w.count["founders killed"]++
			}
		}
		wipe := w.mayWipe && w.crash > 0 && strings.HasPrefix(e.what, "answer promise") && w.rng.IntN(4) == 0
		w.mayWipe = w.mayWipe && !wipe
		founder := w.hosts[e.parties[0]]
		w.mu.Unlock()
		if wipe {
			w.wipe(founder, 10*time.Second)
		} else if strike {
			w.strike(party, fault)
		}
	}
}

// apartLocked cuts the link of two hosts for a while; gossip goes around it.
func (w *world) apartLocked(p pair, lasts time.Duration) {
	w.link[p] = true
	w.count["links cut"]++
	w.noteLocked("link %v is cut", p)
	w.group.Go(func() {
		time.Sleep(lasts)
		w.mu.Lock()
		defer w.mu.Unlock()
		delete(w.link, p)
	})
}

// trouble does one bad thing.
func (w *world) trouble(rng *rand.Rand) {
	h := w.victim(rng)
	switch down := time.Duration(rng.IntN(20_000)) * time.Millisecond; rng.IntN(9) {
	case 0, 1, 2:
		w.kill(h, down)
	case 3:
		w.kill(h, 50*time.Millisecond)
	case 4:
		w.cut(h.name, down)
	case 5, 6, 7:
		w.partition(rng)
	case 8:
		w.mu.Lock()
		clear(w.link)
		clear(w.gossip)
		w.mu.Unlock()
	}
}

// victim is a founder, if there is one, half of the time.
func (w *world) victim(rng *rand.Rand) *host {
	w.mu.Lock()
	defer w.mu.Unlock()
	h := w.hosts[w.names[rng.IntN(len(w.names))]]
	if rng.IntN(2) == 0 {
		return h
	}
	for _, name := range w.names {
		if f := w.hosts[name]; f.proc != nil && f.disk.record().Own != nil && f.proc.decision.Kind == 0 {
			w.count["founders killed"]++
			return f
		}
	}
	return h
}

// partition gives each pair of hosts a chance to lose sight of each other: in
// two groups, or at random, in gossip, on the link, or both.
func (w *world) partition(rng *rand.Rand) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.count["partitions"]++
	groups, gossip, link := rng.IntN(2) == 0, rng.IntN(3) > 0, rng.IntN(3) > 0
	side := make(map[string]int)
	for _, name := range w.names {
		side[name] = rng.IntN(2)
	}
	for i, a := range w.names {
		for _, b := range w.names[:i] {
			apart := side[a] != side[b]
			if !groups {
				apart = rng.IntN(3) == 0
			}
			w.gossip[pairOf(a, b)], w.link[pairOf(a, b)] = apart && gossip, apart && link
		}
	}
	w.noteLocked("partition, groups %v, gossip %v, link %v: %v", groups, gossip, link, side)
}

// heal ends all trouble; hosts that are down come back.
func (w *world) heal() {
	w.mu.Lock()
	clear(w.link)
	clear(w.gossip)
	w.lose, w.late, w.crash, w.slow = 0, 0, 0, 20*time.Millisecond
	w.noteLocked("healed")
	hosts := make([]*host, 0, len(w.hosts))
	for _, h := range w.hosts {
		hosts = append(hosts, h)
	}
	w.mu.Unlock()
	for _, h := range hosts {
		w.start(h)
	}
}

// settleWithOperator settles, and tells agents that are promised to a founder
// whose disk is lost to forget it.
func (w *world) settleWithOperator(most time.Duration) bool {
	for end := time.Now().Add(most); time.Now().Before(end); {
		if w.settle(5 * time.Second) {
			return true
		}
		for _, p := range w.waitingForTheLost() {
			if p.b.Forget(p.b.Status().List) == nil {
				w.mu.Lock()
				w.count["forgotten"]++
				w.noteLocked("%s forgets", p.host.name)
				w.mu.Unlock()
			}
		}
	}
	return w.settled()
}

func (w *world) waitingForTheLost() []*proc {
	w.mu.Lock()
	defer w.mu.Unlock()
	var found []*proc
	for _, h := range w.hosts {
		r := h.disk.record()
		if h.proc == nil || h.proc.b == nil || r.Cluster != "" || r.Promise == nil {
			continue
		}
		if w.wiped[r.Promise.byName(r.Promise.Founder).ServerID] {
			found = append(found, h.proc)
		}
	}
	return found
}
