package processes

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Two of five voters die, the leader among them, while a lock is held, three
// wait and a worker's requests are in flight; then every agent is restarted.
// Nobody notices: no call fails, no handle leaves held, the queue keeps its
// order.
func TestVotersDieAndAgentsRestart(t *testing.T) {
	t.Parallel()
	var pauses []time.Duration
	for range trials(t, 1) {
		t.Run("trial", func(t *testing.T) {
			c := formed(t, plan{agents: 7, expect: 5})
			pauses = append(pauses, surviveAll(c))
		})
	}
	figure(t, "longest turn of a worker while two of five voters died, the leader among them: %s; aim below 3s", spread(pauses))
}

const longTTL = time.Minute // outlives elections and restarts

func surviveAll(c *cluster) (pause time.Duration) {
	t, r := c.t, c.roles()
	t.Helper()
	holder := r.forwarders[0].application().open(longTTL)
	first := holder.lock("held")
	holder.must(order{Do: "watch", Lock: "held"})
	var queue []<-chan answer
	var waiters []*application
	for i, a := range []*agent{r.forwarders[1], r.voters[0], r.voters[1]} {
		w := a.application().open(longTTL)
		waiters, queue = append(waiters, w), append(queue, w.wait("held", uint64(i+1)))
	}
	busy := r.forwarders[1].application().open(longTTL)

	pause = killVoters(c, r, busy)
	stillHeld(c, holder, "held", first, queue)

	for _, a := range c.agents {
		if a.up() {
			a.leave()
		}
	}
	stopped := clock()
	for _, a := range c.agents {
		a.start()
	}
	c.whole(2*formTime, 5)
	figure(t, "all seven agents serve again %s after the last had stopped", (clock() - stopped).Round(time.Millisecond))
	stillHeld(c, holder, "held", first, queue)
	c.waiters("held", 3)

	token := first.Token
	holder.must(order{Do: "unlock", Lock: "held"})
	for i, w := range waiters {
		got := c.good(queue[i], fmt.Sprintf("waiter %d", i+1))
		if got.Token <= token {
			t.Errorf("waiter %d has token %d after %d", i+1, got.Token, token)
		}
		token = got.Token
		for j, later := range queue[i+1:] {
			select {
			case r := <-later:
				t.Fatalf("waiter %d was answered before waiter %d: %+v", i+j+2, i+1, r)
			default:
			}
		}
		w.must(order{Do: "unlock", Lock: "held"})
	}
	return pause
}

// killVoters kills the leader and another voter under a worker's hands, and
// returns its longest turn.
func killVoters(c *cluster, r roles, busy *application) time.Duration {
	c.t.Helper()
	work := busy.begin(order{Do: "work", Lock: "busy"})
	until(c.t, formTime, "the worker works", func() error {
		info, err := r.forwarders[1].get("busy")
		if err == nil && info.Token == 0 {
			err = fmt.Errorf("nobody holds it at this moment")
		}
		return err
	})
	killed := clock()
	for _, a := range []*agent{r.leader, r.voters[2]} {
		a.proc.meant = true
		a.proc.signal(c.t, unix.SIGKILL)
	}
	until(c.t, formTime, "another leads", func() error {
		st, err := r.voters[0].status()
		if err == nil && (!st.HasQuorum || st.LeaderName == r.leader.name) {
			err = fmt.Errorf("the leader is %q", st.LeaderName)
		}
		return err
	})
	pass(500 * time.Millisecond) // some turns under the new one
	busy.must(order{Do: "rest"})
	turns := c.good(work, "the work").Turns
	checkTurns(c, turns)
	longest := slices.MaxFunc(turns, func(a, b turn) int { return int((a.Ended - a.Began) - (b.Ended - b.Began)) })
	if longest.Ended < killed || turns[len(turns)-1].Began < killed {
		c.t.Errorf("the worker did not work through the kill")
	}
	return longest.Ended - longest.Began
}

// checkTurns: no call failed, and each lock was granted once. The worker is the
// only one that is granted anything, and each grant raises the token by one; so
// a request that had been applied twice would leave a gap.
func checkTurns(c *cluster, turns []turn) {
	c.t.Helper()
	for i, one := range turns {
		if one.Failed != "" {
			c.t.Errorf("turn %d failed: %s", i, one.Failed)
		}
		if i > 0 && one.Token != turns[i-1].Token+1 {
			c.t.Errorf("turn %d has token %d after %d", i, one.Token, turns[i-1].Token)
		}
	}
}

// stillHeld: the holder's own log has no gap in what it believed, its token is
// the one it was granted, the cluster says the same, and nobody who waits was
// answered.
func stillHeld(c *cluster, holder *application, name string, first answer, queue []<-chan answer) {
	c.t.Helper()
	seen := holder.watched(name)
	if !seen.unbroken() {
		c.t.Errorf("the holder's log of Valid() is broken: %+v", seen)
	}
	now := holder.must(order{Do: "check", Lock: name})
	if !now.Valid || now.Token != first.Token {
		c.t.Errorf("the handle: %+v; granted was token %d", now, first.Token)
	}
	for i, q := range queue {
		select {
		case r := <-q:
			c.t.Fatalf("waiter %d was answered: %+v", i+1, r)
		default:
		}
	}
	until(c.t, formTime, "the cluster knows the holder", func() error {
		info, err := holder.at.get(name)
		if err == nil && info.Token != first.Token {
			c.t.Fatalf("the cluster says %+v; granted was token %d", info, first.Token)
		}
		return err
	})
}
