package processes

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The leader is cut off from everybody else. Whatever is asked of it after the
// cut, it acknowledges nothing; the others go on; healed, all tell one history.
func TestLeaderCutOff(t *testing.T) {
	t.Parallel()
	c := formed(t, plan{agents: 7, expect: 5, apart: true})
	var byVoter, byForwarder []time.Duration
	for n := range trials(t, 1) {
		voter, forwarder := cutLeader(c, n)
		byVoter, byForwarder = append(byVoter, voter), append(byForwarder, forwarder)
	}
	figure(t, "from the cut to the first grant by the others, at a voter's socket: %s", spread(byVoter))
	figure(t, "from the cut to the first grant by the others, at a forwarder's socket: %s", spread(byForwarder))
}

const cutTTL = 3 * time.Second

// cutLeader tells how long it took others to be granted a lock, through a
// voter and through a forwarder; their sessions have long TTLs.
func cutLeader(c *cluster, n int) (voter, forwarder time.Duration) {
	t, r := c.t, c.roles()
	t.Helper()
	held, probes := fmt.Sprintf("cut-%d", n), fmt.Sprintf("probe-%d-", n)
	holder := r.leader.application().open(cutTTL)
	first := holder.lock(held)
	holder.must(order{Do: "watch", Lock: held})
	prober := r.leader.application().open(longTTL)
	next := r.forwarders[0].application().open(longTTL)
	granted := next.wait(held, 1)
	others := []*application{r.voters[0].application().open(longTTL), r.forwarders[1].application().open(longTTL)}

	c.net.split(t, []int{r.leader.index})
	cut := clock()
	var elsewhere []<-chan answer
	for i, other := range others {
		elsewhere = append(elsewhere, other.begin(order{Do: "lock", Lock: fmt.Sprint(probes, "elsewhere-", i)}))
	}
	acknowledgesNothing(c, prober, held, probes, cut+cutTTL+4*time.Second)

	voter = c.good(elsewhere[0], "a lock at a voter's socket").Ended - cut
	forwarder = c.good(elsewhere[1], "a lock at a forwarder's socket").Ended - cut
	second := c.good(granted, "the next one's lock")
	if second.Token <= first.Token {
		t.Errorf("token %d after %d", second.Token, first.Token)
	}
	seen := holder.watched(held)
	if limit := cut + 98*cutTTL/100; seen.Deadline > limit {
		t.Errorf("renewed after the cut: its deadline moved to %s, %s beyond what a beat of before could bring", seen.Deadline, seen.Deadline-limit)
	}
	if seen.FirstLost == 0 || seen.Again != 0 || seen.LastValid >= second.Ended || seen.Deadline >= second.Ended {
		t.Errorf("the holder's log %+v; the next one was granted the lock at %s", seen, second.Ended)
	}
	c.net.heal(t)
	c.whole(2*formTime, 5)
	oneHistory(c, held, second.Token, probes)
	c.dismiss()
	return voter, forwarder
}

// acknowledgesNothing asks the agent that is cut off for grants and reads.
func acknowledgesNothing(c *cluster, prober *application, held, probes string, over time.Duration) {
	c.t.Helper()
	asked := 0
	for ; clock() < over; asked++ {
		lock := prober.begin(order{Do: "lock", Try: true, Lock: fmt.Sprintf("%s%d", probes, asked), Patience: 400 * time.Millisecond})
		read := prober.begin(order{Do: "get", Lock: held, Patience: 400 * time.Millisecond})
		if r := c.outcome(lock, "a lock asked of the one cut off"); r.Failure == nil {
			c.t.Errorf("the leader that is cut off granted token %d, asked at %s, answered at %s", r.Token, r.Began, r.Ended)
		}
		if r := c.outcome(read, "a read asked of the one cut off"); r.Failure == nil {
			c.t.Errorf("the leader that is cut off answered a read: %+v", r.Info)
		}
	}
	if asked == 0 {
		c.t.Error("nothing was asked")
	}
}

// oneHistory: every agent tells the same holder, and of what was refused to
// those who asked in the dark nothing is left.
func oneHistory(c *cluster, held string, token uint64, probes string) {
	c.t.Helper()
	for _, a := range c.agents {
		until(c.t, formTime, a.name+" tells the same history", func() error {
			info, err := a.get(held)
			if err == nil && info.Token != token {
				c.t.Fatalf("%s: %+v; granted last was token %d", a.name, info, token)
			}
			if err != nil {
				return err
			}
			all, _, err := a.list(probes)
			for name := range all {
				if !strings.Contains(name, "elsewhere") {
					return fmt.Errorf("%s is still held or waited for", name)
				}
			}
			if err == nil && len(all) != 2 {
				err = fmt.Errorf("%d locks: %v", len(all), all)
			}
			return err
		})
	}
}

// The leader is stopped across an election and goes on as if nothing had been.
// What was asked of it meanwhile is answered by nobody or truly: no read is
// older than what the others did before it was asked, no lock is held twice.
func TestLeaderStopped(t *testing.T) {
	c := usual(t)
	for n := range trials(t, 1) {
		stopLeader(c, n)
	}
}

func stopLeader(c *cluster, n int) {
	t, r := c.t, c.roles()
	t.Helper()
	held, moving := fmt.Sprintf("stopped-leader-%d", n), fmt.Sprintf("moving-%d", n)
	holder := r.leader.application().open(cutTTL)
	first := holder.lock(held)
	holder.must(order{Do: "watch", Lock: held})
	asker := r.leader.application().open(longTTL)
	next := r.forwarders[0].application().open(longTTL)
	granted := next.wait(held, 1)
	mover := r.voters[0].application().open(longTTL)
	mover.lock(moving)

	r.leader.proc.stop(t)
	stopped := clock()
	second := c.good(granted, "the next one's lock") // so another leads
	mover.must(order{Do: "unlock", Lock: moving})
	moved := mover.lock(moving)
	asked := asker.begin(order{Do: "get", Lock: moving})
	tried := asker.begin(order{Do: "lock", Try: true, Lock: held})
	pass(200 * time.Millisecond) // they lie in the socket now
	r.leader.proc.signal(t, unix.SIGCONT)

	if read := c.outcome(asked, "a read"); read.Failure == nil && read.Info.Token < moved.Token {
		t.Errorf("a read asked at %s tells %+v; token %d was granted before, at %s", read.Began, read.Info, moved.Token, moved.Ended)
	}
	if lock := c.outcome(tried, "a lock"); lock.Failure == nil {
		t.Errorf("granted token %d although token %d holds: %+v", lock.Token, second.Token, lock)
	}
	seen := holder.watched(held)
	if second.Token <= first.Token || seen.Deadline >= second.Ended || seen.LastValid >= second.Ended || seen.Again != 0 {
		t.Errorf("the holder's log %+v, token %d; its leader was stopped at %s; the next one was granted token %d at %s",
			seen, first.Token, stopped, second.Token, second.Ended)
	}
	c.whole(2*formTime, 5)
	for _, a := range c.agents {
		info, err := a.get(held)
		if err != nil || info.Token != second.Token {
			t.Errorf("%s: %+v, %v; granted last was token %d", a.name, info, err, second.Token)
		}
	}
	figure(t, "from the leader's stop to the next grant of a lock of TTL %s held there: %s", cutTTL, (second.Ended - stopped).Round(time.Millisecond))
	c.dismiss()
}

// The majority is gone for longer than a TTL. Meanwhile every error says that
// there is no quorum, and whether the request may have been applied; then every
// old handle is lost, and every lock free or granted anew.
func TestMajorityGone(t *testing.T) {
	t.Parallel()
	c := formed(t, plan{agents: 7, expect: 5})
	r := c.roles()
	away := []*agent{r.leader, r.voters[2], r.voters[3]}
	var holders []*application
	var tokens []uint64
	for i, a := range []*agent{r.voters[0], r.forwarders[0]} {
		h := a.application().open(cutTTL)
		name := fmt.Sprintf("gone-%d", i)
		tokens = append(tokens, h.lock(name).Token)
		h.must(order{Do: "watch", Lock: name})
		holders = append(holders, h)
	}
	next := r.forwarders[1].application().open(longTTL)
	granted := next.wait("gone-0", 1)

	for _, a := range away {
		a.proc.kill()
	}
	gone := clock()
	asker := r.forwarders[1].application()
	opened := asker.ask(order{Do: "open", TTL: longTTL, Patience: 5 * time.Second})
	if opened.Failure == nil || opened.Failure.Reason != "NO_QUORUM" {
		t.Errorf("a session is opened without a quorum: %+v", opened.Failure)
	}
	for clock() < gone+cutTTL+2*time.Second {
		saysNoQuorum(t, next.ask(order{Do: "lock", Lock: "another", Patience: time.Second}), true)
		saysNoQuorum(t, next.ask(order{Do: "get", Lock: "gone-0", Patience: time.Second}), false)
	}
	for i, h := range holders {
		seen := h.watched(fmt.Sprintf("gone-%d", i))
		if limit := gone + 98*cutTTL/100; seen.FirstLost == 0 || seen.Deadline > limit {
			t.Errorf("holder %d without a quorum: %+v; the last of the majority was killed at %s", i, seen, gone)
		}
	}

	back := clock()
	for _, a := range away {
		a.start()
	}
	second := c.good(granted, "the one that waited")
	third := next.lock("gone-1")
	figure(t, "from the majority's return to the grant of what was held before: %s", (second.Ended - back).Round(time.Millisecond))
	for i, got := range []answer{second, third} {
		seen := holders[i].watched(fmt.Sprintf("gone-%d", i))
		if got.Token <= tokens[i] || seen.Again != 0 || seen.LastValid >= got.Ended {
			t.Errorf("granted %+v after token %d; the former holder's log %+v", got, tokens[i], seen)
		}
	}
	c.whole(2*formTime, 5)
}

// saysNoQuorum: an error names the reason, and a change's tells whether it may
// have been applied.
func saysNoQuorum(t testing.TB, r answer, change bool) {
	t.Helper()
	switch {
	case r.Failure == nil:
		t.Errorf("answered without a quorum: %+v", r)
	case r.Failure.Reason != "NO_QUORUM":
		t.Errorf("an error without a quorum has reason %q: %v", r.Failure.Reason, r.Failure)
	case change && r.Failure.Applied != "no" && r.Failure.Applied != "unknown":
		t.Errorf("an error does not tell whether the request was applied: %+v", r.Failure)
	}
}

var errStill = errors.New("not yet")
