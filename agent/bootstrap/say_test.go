package bootstrap

import (
	"log/slog"
	"strings"
	"testing"
	"time"
)

// A first start that waits says for what: at once when that changes, and every
// half minute.
func TestWaitingIsLogged(t *testing.T) {
	var log lockedLog
	story(t, shape{expect: 3, agents: 2}, func(w *world) {
		w.log = slog.New(slog.NewTextHandler(&log, nil))
		n1, n2 := w.hosts["n1"], w.hosts["n2"]
		w.start(n1)
		w.gossips()
		lines := func(want int, words string) {
			t.Helper()
			if got := log.count(words); got != want {
				t.Errorf("%d lines with %q, want %d, in\n%s", got, words, want, log.text.String())
			}
		}
		alone := `level=INFO msg="waits for more agents" host=n1 component=bootstrap have=1 want=3 seen=[n1]`
		time.Sleep(time.Second)
		lines(1, alone)
		time.Sleep(28 * time.Second)
		lines(1, alone)
		time.Sleep(2 * time.Second)
		lines(2, alone)
		time.Sleep(9*time.Minute + 30*time.Second)
		lines(21, alone)
		w.start(n2)
		time.Sleep(2 * time.Second)
		lines(1, `host=n1 component=bootstrap have=2 want=3 seen="[n1 n2]"`)
		lines(21, alone)
		w.must(strings.HasPrefix(w.boot("n1").Status().Doing, "waits for more agents, 2 of 3"), "status has the numbers")
		w.start(w.add("n3", 3))
		w.mustBeOne(w.settle(10 * time.Second))
		lines(1, `msg="waits for its view to be still" host=n1`)
		lines(1, `msg="waits for the lowest-named to stand" host=n2 component=bootstrap have=3 want=3 seen="[n1 n2 n3]" of=[n1]`)
		before := log.count("seen=")
		time.Sleep(10 * time.Minute)
		lines(before, "seen=")
	})
}
