package processes

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/raftlock/raftlock/sdk/go/guard"
)

// A holder is stopped for longer than its TTL. The next one is granted the lock
// by the lease's end; the first, running again, is told "lost" by its first
// check and by every other.
func TestStoppedHolder(t *testing.T) {
	c := usual(t)
	var took []time.Duration
	const ttl = 2 * time.Second
	for n := range trials(t, 1) {
		took = append(took, stopHolder(c, fmt.Sprintf("stopped-%d", n), ttl))
	}
	figure(t, "from the stop of a holder with TTL %s to the next one's grant: %s; promised within 1.35 TTL = %s, a tick and a commit",
		ttl, spread(took), 135*ttl/100)
}

func stopHolder(c *cluster, name string, ttl time.Duration) time.Duration {
	t, r := c.t, c.roles()
	t.Helper()
	holder := r.forwarders[0].application().open(ttl)
	next := r.voters[0].application().open(ttl)
	first := holder.lock(name)
	holder.must(order{Do: "watch", Lock: name})
	granted := next.wait(name, 1)
	pass(ttl / 2) // its beats are regular by now
	stopped := clock()
	holder.proc.stop(t)
	second := c.good(granted, "the next one's lock")
	took := second.Ended - stopped
	if second.Token <= first.Token {
		t.Errorf("token %d after %d", second.Token, first.Token)
	}
	if limit := 135*ttl/100 + slack; took > limit {
		t.Errorf("granted %s after the stop; %s is the limit", took, limit)
	}
	holder.proc.signal(t, unix.SIGCONT)
	seen := holder.watched(name)
	// The stop may have come between a look's clock reading and its check, but
	// such a look began before the stop.
	if seen.LastValid >= second.Ended || seen.Again != 0 {
		t.Errorf("a check after the next grant said valid: granted at %s, stopped at %s, log %+v", second.Ended, stopped, seen)
	}
	if seen.Deadline >= second.Ended {
		t.Errorf("the first one's deadline %s reaches beyond the next grant, %s", seen.Deadline, second.Ended)
	}
	if now := holder.ask(order{Do: "check", Lock: name}); now.Valid || now.Failure == nil || now.Failure.Reason != "LOST" {
		t.Errorf("the first one's handle: %+v", now)
	}

	guardRefuses(t, name, first.Token, second.Token)
	c.dismiss()
	return took
}

// guardRefuses: a resource that has seen the next one's token takes nothing
// under the first one's any more, and did before.
func guardRefuses(t testing.TB, resource string, first, second uint64) {
	t.Helper()
	g, err := guard.Open(runPath("guard"))
	must(t, err)
	defer func() { must(t, g.Close()) }()
	must(t, g.Check(resource, first))
	must(t, g.Check(resource, second))
	if err := g.Check(resource, first); !errors.Is(err, guard.ErrStale) {
		t.Errorf("the guard, shown token %d after %d: %v", first, second, err)
	}
}

// slack is what a busy machine may add to a promise in time: ticks that come
// late, commits that wait for a disk that others use.
const slack = 1500 * time.Millisecond
