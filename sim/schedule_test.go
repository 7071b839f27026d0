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
	x.events["hellos"] += int(s.hellos.Load())
	for what, n := range s.Faults {
		x.faults[what] += n
	}
}

func (x *totals) print(t *testing.T) {
	t.Logf("%d schedules, %d counted; %.0f virtual s, %.1f s of a core: %.0f virtual s/s",
		x.n, x.good, x.virtual.Seconds(), x.real.Seconds(), x.virtual.Seconds()/x.real.Seconds())
	for _, m := range []map[string]int{x.events, x.faults} {
		var b strings.Builder
		for _, k := range slices.Sorted(maps.Keys(m)) {
			fmt.Fprintf(&b, "%s %d, ", k, m[k])
		}
		t.Log(strings.TrimSuffix(b.String(), ", "))
	}
}

// require fails a run that exercised too little of anything.
func (x *totals) require(t *testing.T) {
	for _, f := range faultNames {
		if x.faults[f] < x.n/20 {
			t.Errorf("only %d times %q in %d schedules", x.faults[f], f, x.n)
		}
	}
	for what, each := range map[string]int{"elections": 2, "granted": 20, "handed off": 10, "opened": 7, "resumed": 1} {
		if x.events[what] < each*x.n {
			t.Errorf("only %d %s in %d schedules; %d each are expected", x.events[what], what, x.n, each)
		}
	}
	if x.events["expired"] < x.n/2 {
		t.Errorf("only %d sessions expired in %d schedules", x.events["expired"], x.n)
	}
}
