package consensus

import (
	"fmt"
	"sync"
	"testing"
	"time"
)

func TestGatherDecides(t *testing.T) {
	const took = 4 * time.Millisecond
	for name, c := range map[string]struct {
		g      gather
		queued int
		want   int
		most   time.Duration
	}{
		"the first round":                 {gather{}, 3, 0, 0},
		"one that comes alone":            {gather{answered: 1, took: took}, 0, 0, 0},
		"one, and one that it left":       {gather{answered: 1, took: took}, 1, 2, took / 2},
		"a crowd that is to come back":    {gather{answered: 8, took: took}, 0, 8, took / 2},
		"and another that it left":        {gather{answered: 8, took: took}, 5, 13, took / 2},
		"no more than an entry holds":     {gather{answered: 500, took: took}, 400, entryCommandsMax, took / 2},
		"a slow disk":                     {gather{answered: 8, took: time.Second}, 0, 8, gatherMax},
		"a crowd that does not come back": {gather{answered: 8, took: took, vain: gatherVainMax}, 5, 0, 0},
		"a probe":                         {gather{answered: 8, took: took, vain: gatherVainMax, passed: gatherProbe}, 5, 13, took / 2},
	} {
		t.Run(name, func(t *testing.T) {
			if want, most := c.g.next(c.queued); want != c.want || most != c.most {
				t.Errorf("waits for %d, %v at most; want %d, %v", want, most, c.want, c.most)
			}
		})
	}
}

func TestGatherLearns(t *testing.T) {
	for name, c := range map[string]struct {
		before, after int
		vain          int
	}{
		"all came":          {0, 8, 0},
		"half came":         {3, 7, 0},
		"fewer came":        {3, 6, 3},
		"only those before": {3, 3, 3},
		"nobody was there":  {0, 0, 2},
	} {
		t.Run(name, func(t *testing.T) {
			g := gather{answered: 8, vain: 2}
			g.waited(c.before, c.after)
			if g.vain != c.vain {
				t.Errorf("%d waits in vain, want %d", g.vain, c.vain)
			}
			if want, _ := g.next(5); want != 0 {
				t.Error("waits twice after one round")
			}
		})
	}
}

// gatherCluster is a leader of three whose rounds take some milliseconds.
func gatherCluster(t *testing.T) (*cluster, *Leadership) {
	c := newCluster(t, 3, 0, nil)
	t.Cleanup(c.close)
	_, l := c.leader()
	for _, m := range c.members {
		m.disk.set(func() { m.disk.delay = time.Millisecond })
	}
	return c, l
}

// Clients that ask again when they were answered share every entry, however
// they began.
func TestCrowdsJoin(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const clients, times = 8, 50
		_, l := gatherCluster(t)
		before := l.node.LastIndex()
		var all sync.WaitGroup
		for i := range clients {
			all.Go(func() {
				time.Sleep(time.Duration(i) * 700 * time.Microsecond)
				for k := range times {
					if a := propose(t, l, acquire(fmt.Sprint(i, "-", k))); a.err != nil {
						t.Error(a.err)
					}
					time.Sleep(time.Duration(100+10*i) * time.Microsecond)
				}
			})
		}
		all.Wait()
		if entries := l.node.LastIndex() - before; entries > times*5/4 {
			t.Errorf("%d clients put %d commands each into %d entries", clients, times, entries)
		}
	})
}

// A client without company is never kept waiting.
func TestNobodyWaitsAlone(t *testing.T) {
	bubble(t, func(t *testing.T) {
		_, l := gatherCluster(t)
		var first time.Duration
		for k := range 20 {
			begin := time.Now()
			if a := propose(t, l, acquire(fmt.Sprint(k))); a.err != nil {
				t.Fatal(a.err)
			}
			took := time.Since(begin)
			if k == 0 {
				first = took
			}
			if took > first {
				t.Errorf("command %d took %v, the first one %v", k, took, first)
			}
			time.Sleep(300 * time.Microsecond)
		}
	})
}

// Commands that come whatever was answered wait for a round under way and their
// own, and hardly longer: waiting for more does not pay.
func TestStrangersHardlyWait(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const commands, apart = 1000, 1300 * time.Microsecond
		_, l := gatherCluster(t)
		begin := time.Now()
		if a := propose(t, l, acquire("first")); a.err != nil {
			t.Fatal(a.err)
		}
		round := time.Since(begin)
		var mu sync.Mutex
		var sum time.Duration
		var all sync.WaitGroup
		for k := range commands {
			all.Go(func() {
				begin := time.Now()
				if a := propose(t, l, acquire(fmt.Sprint(k))); a.err != nil {
					t.Error(a.err)
				}
				mu.Lock()
				defer mu.Unlock()
				sum += time.Since(begin)
			})
			time.Sleep(apart)
		}
		all.Wait()
		// On average half a round under way, and one's own.
		if mean, most := sum/commands, round*165/100; mean > most {
			t.Errorf("commands took %v on average, a round takes %v", mean, round)
		}
	})
}
