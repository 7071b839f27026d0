package bootstrap

import (
	"bytes"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// story runs one pool of agents that expect so many, all started.
func story(t *testing.T, s shape, tell func(*world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, t.Name(), 1)
		defer w.stop()
		for _, name := range hostNames(s.agents) {
			w.add(name, s.expect)
		}
		tell(w)
	})
}

// begin starts all hosts and gossip.
func (w *world) begin() {
	for _, name := range w.names {
		w.start(w.hosts[name])
	}
	w.gossips()
}

func (w *world) must(ok bool, what string) {
	w.t.Helper()
	if ok {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.failLocked("%s", what)
}

func (w *world) kind(name string) Kind {
	w.mu.Lock()
	defer w.mu.Unlock()
	if p := w.hosts[name].proc; p != nil {
		return p.decision.Kind
	}
	return 0
}

func (w *world) boot(name string) *Bootstrap {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.hosts[name].proc.b
}

func (w *world) counted(what string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.count[what]
}

func (w *world) setCut(cuts map[pair]bool, apart bool, pairs ...pair) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range pairs {
		cuts[p] = apart
	}
}

// at runs once, when the first event of this name comes.
func (w *world) at(what string, do func()) {
	var once sync.Once
	w.hook = func(e event) {
		if strings.HasPrefix(e.what, what) {
			once.Do(do)
		}
	}
}

func TestOneExpected(t *testing.T) {
	story(t, shape{expect: 1, agents: 1}, func(w *world) {
		w.begin()
		w.mustBeOne(w.settle(10 * time.Second))
		w.must(w.kind("n1") == Found, "n1 founds")
	})
}

func TestLaterAgentsFollow(t *testing.T) {
	story(t, shape{expect: 3, agents: 3}, func(w *world) {
		w.begin()
		w.mustBeOne(w.settle(10 * time.Second))
		w.must(w.kind("n1") == Found && w.kind("n2") == Start && w.kind("n3") == Start, "n1 founds, n2 and n3 start")
		// A name below all others and a forwarder make no difference.
		w.start(w.add("n0", 3))
		last := w.add("n9", 3)
		last.forwarder = true
		w.start(last)
		w.mustBeOne(w.settle(10 * time.Second))
		w.must(w.kind("n0") == Follow && w.kind("n9") == Follow, "n0 and n9 follow")
		for _, name := range w.names {
			w.kill(w.hosts[name], 0)
		}
		time.Sleep(time.Second)
		w.mustBeOne(w.settle(10 * time.Second))
		w.must(w.kind("n1") == Start && w.kind("n2") == Start && w.kind("n0") == Follow, "after a restart all know what they are")
		w.must(w.counted("founded") == 1, "founded once")
	})
}

// A follower that lost sight of its cluster helps nobody to make another.
func TestMemberIsNeverEligible(t *testing.T) {
	story(t, shape{expect: 1, agents: 1}, func(w *world) {
		w.begin()
		w.mustBeOne(w.settle(10 * time.Second))
		w.start(w.add("n2", 1))
		w.mustBeOne(w.settle(10 * time.Second))
		// The follower expects three from now on, the fresh ones too.
		w.hosts["n2"].expect = 3
		w.kill(w.hosts["n2"], 0)
		w.kill(w.hosts["n1"], -1)
		time.Sleep(5 * time.Second)
		f := promiseMessage(&list{ClusterID: "x", Founder: "n3", Members: []peer{
			{"n2", w.boot("n2").cfg.ServerID, "at-n2"}, {"n3", "s3", "at-n3"}, {"n4", "s4", "at-n4"}}})
		a := w.boot("n2").Answer(f)
		w.must(!a.GetOk() && a.GetMemberOf() != "", "it is of a cluster and refuses")
	})
}

// One that cannot be asked keeps the founder from founding: all promises, not
// most of them.
func TestFoundsWithAllPromises(t *testing.T) {
	story(t, shape{expect: 3, agents: 3}, func(w *world) {
		w.link[pairOf("n1", "n3")] = true
		w.begin()
		time.Sleep(3 * time.Minute)
		w.must(len(w.clusters()) == 0, "nobody founds")
		w.must(w.counted("abandons") > 1, "the founder does not keep the promises for ever")
		w.heal()
		w.mustBeOne(w.settle(afterHeal))
	})
}

// The founder dies where its abandon is saved: after its return the list stands
// and so do the promises, or neither does.
func TestAbandonIsDurableFirst(t *testing.T) {
	for _, when := range []string{"before", "after"} {
		t.Run(when, func(t *testing.T) {
			story(t, shape{expect: 3, agents: 3}, func(w *world) {
				w.link[pairOf("n1", "n3")] = true
				w.at(when+" save bootstrap n1 #2", func() { w.kill(w.hosts["n1"], 10*time.Second) })
				w.begin()
				time.Sleep(22 * time.Second)
				w.mu.Lock()
				dead, bound := w.hosts["n1"].proc == nil, w.hosts["n2"].disk.record().Promise != nil
				w.mu.Unlock()
				w.must(dead, "the founder is dead")
				w.must(bound, "nobody told n2")
				w.heal()
				w.mustBeOne(w.settle(afterHeal))
			})
		})
	}
}

// Two founders with one promise each: the lowest-named wins, the other gives
// way, both for good reason.
func TestLowestFounderWins(t *testing.T) {
	story(t, shape{expect: 3, agents: 4}, func(w *world) {
		w.setCut(w.gossip, true, pairOf("n1", "n2"))
		// n3 promises to n1 alone, n4 to n2 alone.
		w.setCut(w.link, true, pairOf("n1", "n4"), pairOf("n2", "n3"))
		w.begin()
		for w.counted("stood") < 2 || w.counted("promises") < 4 {
			time.Sleep(100 * time.Millisecond)
		}
		w.setCut(w.link, false, pairOf("n1", "n4"), pairOf("n2", "n3"))
		// In time for no patience to end.
		time.Sleep(6 * time.Second)
		w.must(w.kind("n1") == Found, "n1 founds")
		w.must(w.counted("abandons") == 1, "n2 abandons, once")
		w.setCut(w.gossip, false, pairOf("n1", "n2"))
		w.mustBeOne(w.settle(afterHeal))
		w.must(w.kind("n2") == Follow, "n2 follows")
	})
}

// lockedLog is what several agents log.
type lockedLog struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lockedLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lockedLog) count(what string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), what)
}

// A founder dies with all promises and does not come back.
func TestDeadFounder(t *testing.T) {
	for _, c := range []struct {
		name, at string
		// complete: it has made its list the cluster.
		complete bool
	}{
		{"before it completes", "before save bootstrap n1 #2", false},
		{"before Raft holds the list", "raft before n1", true},
		{"when Raft holds the list", "raft after n1", true},
		{"before it tells anybody", "request start n1", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			var log lockedLog
			story(t, shape{expect: 3, agents: 3}, func(w *world) {
				w.log = slog.New(slog.NewTextHandler(&log, nil))
				n1 := w.hosts["n1"]
				w.at(c.at, func() { w.kill(n1, -1) })
				w.begin()
				time.Sleep(3 * time.Second)
				s := w.waitPromised("n2")
				time.Sleep(5 * time.Minute)
				w.must(w.kind("n2") == 0 && w.kind("n3") == 0, "the others wait")
				w.must(log.count("promised to a founder that does not answer") > 20, "loudly")
				for _, name := range []string{"n2", "n3"} {
					if err := w.boot(name).Forget(s.List); err != nil {
						t.Error(err)
					}
				}
				time.Sleep(time.Minute)
				w.must(len(w.clusters()) == 0 || c.complete, "two of three found nothing")
				// The operator was wrong, it returns.
				w.start(n1)
				w.mustBeOne(w.settle(afterHeal))
				if c.complete {
					w.must(w.clusters()[0] == s.List && w.kind("n2") == Start && w.kind("n3") == Start, "the list that was complete is the cluster")
				}
			})
		})
	}
}

// waitPromised waits until an agent is bound to a list and says so.
func (w *world) waitPromised(name string) Status {
	for range 100 {
		if s := w.boot(name).Status(); s.List != "" {
			return s
		}
		time.Sleep(100 * time.Millisecond)
	}
	w.must(false, name+" is never promised")
	return Status{}
}

// The founder's disk is lost with its promises; its host comes back as a new
// server. Only the operator can say that the old one never does.
func TestLostFounder(t *testing.T) {
	story(t, shape{expect: 3, agents: 3}, func(w *world) {
		w.at("before save bootstrap n1 #2", func() { w.wipe(w.hosts["n1"], 5*time.Second) })
		w.begin()
		time.Sleep(time.Minute)
		w.must(w.kind("n2") == 0, "n2 waits for the server, not for its name")
		for _, name := range []string{"n2", "n3"} {
			if err := w.boot(name).Forget(w.boot(name).Status().List); err != nil {
				t.Error(err)
			}
		}
		w.mustBeOne(w.settle(afterHeal))
	})
}

// A member's disk is lost after it promised; the list can never be whole.
func TestLostMember(t *testing.T) {
	story(t, shape{expect: 3, agents: 3}, func(w *world) {
		w.link[pairOf("n1", "n3")] = true
		w.at("answer promise n1>n2", func() { w.wipe(w.hosts["n2"], time.Second) })
		w.begin()
		time.Sleep(8 * time.Second)
		w.heal()
		w.mustBeOne(w.settle(afterHeal))
		w.must(w.counted("abandons") == 1, "the list that names a lost server is abandoned")
	})
}

// Enough agents, cut in two before their first start: two clusters, which share
// nobody and are reported; or one, if the operator named its members.
func TestCutInTwo(t *testing.T) {
	for _, initial := range [][]string{nil, {"n2", "n3", "n5"}} {
		story(t, shape{expect: 3, agents: 6}, func(w *world) {
			var apart []pair
			for _, a := range []string{"n1", "n2", "n3"} {
				for _, b := range []string{"n4", "n5", "n6"} {
					apart = append(apart, pairOf(a, b))
				}
			}
			for _, h := range w.hosts {
				h.initial = initial
			}
			w.setCut(w.gossip, true, apart...)
			w.setCut(w.link, true, apart...)
			w.begin()
			if initial != nil {
				time.Sleep(time.Minute)
				w.must(len(w.clusters()) == 0, "nobody founds while the named are apart")
				w.heal()
				w.mustBeOne(w.settle(afterHeal))
				for _, name := range w.names {
					w.must((w.kind(name) != Follow) == slices.Contains(initial, name), name+" is what it was named for")
				}
				return
			}
			w.must(w.settle(time.Minute) && len(w.clusters()) == 2, "each half makes its own")
			w.heal()
			fresh := w.add("n7", 3)
			w.start(fresh)
			time.Sleep(30 * time.Second)
			for _, name := range w.names {
				w.must(len(w.boot(name).Status().Clusters) == 2, name+" reports two clusters")
			}
			w.must(w.kind("n7") == 0, "a fresh agent joins neither")
		})
	}
}

// A copied data directory: two names, one server id. Neither is listed.
func TestCopiedDirectory(t *testing.T) {
	story(t, shape{expect: 3, agents: 4}, func(w *world) {
		for _, name := range []string{"n2", "n3"} {
			w.hosts[name].disk.save(serverIDKey, []byte("copied"))
		}
		w.begin()
		time.Sleep(time.Minute)
		w.must(len(w.clusters()) == 0, "two sound agents are too few")
		w.wipe(w.hosts["n3"], 0)
		w.mustBeOne(w.settle(afterHeal))
	})
}
