package sim

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestSchedules runs random schedules until enough of them count. The number
// is RAFTLOCK_SCHEDULES, or 200; the first seed is RAFTLOCK_SEED, or random.
func TestSchedules(t *testing.T) {
	want := setting(t, "RAFTLOCK_SCHEDULES", 200)
	if testing.Short() {
		want = 20
	}
	seed := setting(t, "RAFTLOCK_SEED", rand.Uint64N(1<<40))
	t.Logf("%d schedules from seed %d", want, seed)
	sum := newTotals()
	for n := uint64(0); sum.counted() < int(want) && !t.Failed(); n += 2 {
		if n > want+want/2+10 {
			t.Fatalf("only %d of %d schedules exercised what they must", sum.counted(), n)
		}
		t.Run(fmt.Sprintf("pair-%d", n/2), func(t *testing.T) {
			for i := range uint64(2) {
				t.Run(strconv.FormatUint(seed+n+i, 10), func(t *testing.T) {
					t.Parallel()
					runSchedule(t, seed+n+i, sum)
				})
			}
		})
	}
	sum.print(t)
	if want >= 200 {
		sum.require(t)
	}
}

func setting(t *testing.T, name string, otherwise uint64) uint64 {
	v := os.Getenv(name)
	if v == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(v, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

func runSchedule(t *testing.T, seed uint64, sum *totals) {
	begun := time.Now()
	synctest.Test(t, func(t *testing.T) {
		w := New(t, seed)
		c := NewCluster(w, ScheduleConfig())
		defer c.Close()
		s := RunSchedule(c)
		sum.add(s)
	})
	sum.took(time.Since(begun))
}

// totals are what many schedules exercised together.
type totals struct {
	mu      sync.Mutex
	n, good int
	virtual time.Duration
	real    time.Duration
	events  map[string]int
	faults  map[string]int
	relinks []time.Duration
}

func newTotals() *totals { return &totals{events: make(map[string]int), faults: make(map[string]int)} }

func (x *totals) counted() int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.good
}

func (x *totals) took(d time.Duration) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.real += d
}

func (x *totals) add(s *Schedule) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.n++
	if s.Counts() {
		x.good++
	}
	x.virtual += s.c.W.Now()
	for what, n := range s.c.Checks.Counts() {
		x.events[what] += n
	}
	x.relinks = append(x.relinks, s.c.Checks.Relinks()...)
	x.events["hellos"] += int(s.hellos.Load())
	for what, n := range s.Faults {
		x.faults[what] += n
	}
}

func (x *totals) print(t *testing.T) {
	t.Logf("%d schedules, %d counted; %.0f virtual s, %.1f s of a core: %.0f virtual s/s",
		x.n, x.good, x.virtual.Seconds(), x.real.Seconds(), x.virtual.Seconds()/x.real.Seconds())
	t.Logf("an agent's first link after an Establish: half within %v, nine in ten within %v", x.relink(50), x.relink(90))
	for _, m := range []map[string]int{x.events, x.faults} {
		var b strings.Builder
		for _, k := range slices.Sorted(maps.Keys(m)) {
			fmt.Fprintf(&b, "%s %d, ", k, m[k])
		}
		t.Log(strings.TrimSuffix(b.String(), ", "))
	}
}

// relink is a quantile of how long links took.
func (x *totals) relink(percent int) time.Duration {
	slices.Sort(x.relinks)
	if len(x.relinks) == 0 {
		return 0
	}
	return x.relinks[(len(x.relinks)-1)*percent/100].Round(time.Millisecond)
}

// require fails a run that exercised too little of anything. The bounds are a
// half to a third of what is usual.
func (x *totals) require(t *testing.T) {
	for _, f := range faultNames {
		if x.faults[f] < x.n/8 {
			t.Errorf("only %d times %q in %d schedules", x.faults[f], f, x.n)
		}
	}
	for what, percent := range map[string]int{
		"elections": 300, "links": 1500, "hellos": 1500, "fail-stops": 50,
		"opened": 3000, "resumed": 300, "expired": 300, "ended": 3000, "ttl": 500,
		"granted": 6000, "handed off": 5000, "handles": 5000, "lost": 100, "revoked": 20, "gone": 30,
		"plain holds": 800, "renewed plain": 5000, "reads": 10000, "stopped for long": 10,
		"aimed cut": 5, "aimed restart from": 5, "aimed restart from, sent": 5, "aimed restart to": 5,
	} {
		if x.events[what]*100 < percent*x.n {
			t.Errorf("only %d %s in %d schedules; %d in a hundred are expected", x.events[what], what, x.n, percent)
		}
	}
	if half := x.relink(50); half > 300*time.Millisecond {
		t.Errorf("half the agents have no link %v after an Establish", half)
	}
	if most := 200 * x.n; x.events["hellos"] > most {
		t.Errorf("%d hellos in %d schedules: agents dial all the time", x.events["hellos"], x.n)
	}
}
