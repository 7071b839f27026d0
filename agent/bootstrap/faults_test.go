package bootstrap

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// afterHeal is how soon all must be of one cluster when nothing ails any more.
const afterHeal = 2 * time.Minute

// A shape is a pool for a first start.
type shape struct {
	expect, agents int
	initial        bool
}

func (s shape) String() string {
	name := fmt.Sprintf("%d-of-%d", s.expect, s.agents)
	if s.initial {
		name += "-initial"
	}
	return name
}

// build adds the shape's hosts and starts them all.
func (s shape) build(w *world) {
	names := hostNames(s.agents)
	for _, name := range names {
		h := w.add(name, s.expect)
		if s.initial {
			h.initial = names[len(names)-s.expect:]
		}
		w.start(h)
	}
	w.gossips()
}

// TestEachFault records what happens in a first start without faults, and then
// starts once more for every message and every save, and lets the fault strike
// there: at either party of the message, before and after the save.
func TestEachFault(t *testing.T) {
	for _, s := range []shape{{expect: 5, agents: 5}, {expect: 5, agents: 7}, {expect: 3, agents: 4}} {
		t.Run(s.String(), func(t *testing.T) {
			events := recordEvents(t, s)
			struck, runs := 0, 0
			for _, e := range events {
				for _, party := range e.parties {
					for _, fault := range []string{"kill", "cut", "restart"} {
						runs++
						if strike(t, s, e.what, party, fault) {
							struck++
						}
					}
				}
			}
			t.Logf("%d events, %d runs, %d struck", len(events), runs, struck)
			if len(events) < 8*s.expect || struck < runs*9/10 {
				t.Errorf("of %d runs over %d events only %d were struck", runs, len(events), struck)
			}
		})
	}
}

// recordEvents returns the events up to the moment when all is decided and told.
func recordEvents(t *testing.T, s shape) []event {
	var mu sync.Mutex
	var events []event
	recording := true
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "fault-free "+s.String(), 1)
		defer w.stop()
		w.hook = func(e event) {
			mu.Lock()
			defer mu.Unlock()
			if recording && !strings.Contains(e.what, "inquire") {
				events = append(events, e)
			}
		}
		s.build(w)
		w.mustBeOne(w.settle(time.Minute))
		time.Sleep(10 * time.Second)
		mu.Lock()
		recording = false
		mu.Unlock()
		if w.counted("stood") != 1 || w.counted("promises") != s.expect || w.counted("founded") != 1 {
			t.Errorf("without faults: stood %d, promises %d, founded %d", w.counted("stood"), w.counted("promises"), w.counted("founded"))
		}
	})
	return slices.Clone(events)
}

// strike starts the shape and lets one fault happen at the named event. It
// reports whether the event came.
func strike(t *testing.T, s shape, what, party, fault string) (struck bool) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, fmt.Sprintf("%s of %s at %q", fault, party, what), 1)
		defer w.stop()
		var once sync.Once
		w.hook = func(e event) {
			if e.what != what {
				return
			}
			once.Do(func() {
				struck = true
				w.strike(party, fault)
			})
		}
		s.build(w)
		// The fault comes within the first seconds and lasts twenty.
		time.Sleep(30 * time.Second)
		w.mustBeOne(w.settle(afterHeal))
	})
	return struck
}

func (w *world) strike(party, fault string) {
	w.mu.Lock()
	h := w.hosts[party]
	w.mu.Unlock()
	switch fault {
	case "kill":
		w.kill(h, 20*time.Second)
	case "restart":
		w.kill(h, 200*time.Millisecond)
	case "cut":
		w.cut(party, 20*time.Second)
	}
}
