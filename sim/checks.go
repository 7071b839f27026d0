package sim

import (
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/raftlock/raftlock/fsm"
	"github.com/raftlock/raftlock/fsm/command"
)

// Checks are what must hold of every run, whatever happened in it.
type Checks struct {
	c *Cluster

	mu sync.Mutex // guards the rest
	// tokens is the newest token granted of each lock, given the newest that
	// reached its holder.
	tokens, given map[string]uint64
	// index is the last one applied anywhere, term that of its leadership.
	index, term uint64
	// watched are the grants whose lock may still be granted to somebody.
	watched map[string][]claim
	// done has the tokens whose release was acknowledged, yielded those of plain
	// holds that one of their users gives up, forced those that an operator
	// takes away at once: the one exception to the promise.
	done, yielded, forced, revoked map[uint64]bool
	// read is the highest index that a linearizable read was answered from.
	read   uint64
	owners map[fsm.ID]owner
	calm   calm
	links  links
	counts map[string]int
}

// claim is a grant as its holder sees it.
type claim interface {
	grant() (holder, lock string, token uint64)
	// Valid is what the holder would see now, by its own host's clock.
	Valid() bool
}

func newChecks(c *Cluster) *Checks {
	return &Checks{
		c: c, tokens: make(map[string]uint64), given: make(map[string]uint64),
		watched: make(map[string][]claim), owners: make(map[fsm.ID]owner),
		done: make(map[uint64]bool), yielded: make(map[uint64]bool), forced: make(map[uint64]bool), revoked: make(map[uint64]bool),
		counts: make(map[string]int),
	}
}

// checkShare: of a state that another replica was found right in, and whose
// hash is the same, each further replica walks every so manyth.
const checkShare = 8

// observer is called for every entry that a replica of h applied.
func (k *Checks) observer(h *Host) func(*fsm.State, fsm.Outcome) {
	return func(s *fsm.State, o fsm.Outcome) {
		first := k.first(o.Index, s.Term())
		every := max(1, k.c.cfg.CheckEvery)
		if o.Index%every == 0 && (first || (o.Index/every+uint64(h.index))%checkShare == 0) {
			if err := s.Check(); err != nil {
				k.c.W.Fail("%s at index %d: %v", h.Name, o.Index, err)
			}
		}
		k.c.W.Applied(h, o.Index, strconv.FormatUint(s.Hash(), 16), nil)
		if first {
			k.outcome(o)
		}
	}
}

// first notes an index and the term of the last Establish as of it, and
// reports whether no replica had applied it before.
func (k *Checks) first(index, term uint64) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if index <= k.index {
		return false
	}
	k.index = index
	if term > k.term {
		k.term = term
		k.counts["elections"]++
		k.calm.since = k.c.W.Now()
		k.links = links{at: k.c.W.Now(), took: k.links.took, of: make(map[string]bool)}
	}
	return true
}

// outcome looks at what an entry did, when the first replica applied it.
func (k *Checks) outcome(o fsm.Outcome) {
	for i, r := range o.Results {
		for _, st := range r.GetStandings() {
			if st.State == command.Standing_STATE_HELD {
				k.grant(st.Lock, st.Token)
			}
		}
		for _, e := range o.Events[i] {
			k.count(eventNames[e.Kind])
			switch e.Kind {
			case fsm.EventGranted:
				k.grant(e.Lock, e.Token)
			case fsm.EventOpened, fsm.EventResumed, fsm.EventTTL:
				k.c.W.Logf("session %x of attachment %d %s, TTL %v", e.Session[:4], e.Attachment, eventNames[e.Kind], time.Duration(e.TTLNanos))
			case fsm.EventRevoked:
				k.revocation(e.Token, false)
				k.c.W.Logf("%s with token %d is revoked", e.Lock, e.Token)
			case fsm.EventEnded:
				k.c.W.Logf("session %x of attachment %d ended: %v", e.Session[:4], e.Attachment, e.Reason)
				if e.Reason == command.EndReason_END_REASON_EXPIRED {
					k.count("expired")
					k.expired(e.Session)
				}
			}
		}
	}
}

var eventNames = map[fsm.EventKind]string{
	fsm.EventOpened: "opened", fsm.EventResumed: "resumed", fsm.EventTTL: "ttl", fsm.EventRenewed: "renewed plain",
	fsm.EventGranted: "handed off", fsm.EventGone: "gone", fsm.EventRevoked: "revoked", fsm.EventEnded: "ended",
}

func (k *Checks) count(what string) {
	k.mu.Lock()
	k.counts[what]++
	k.mu.Unlock()
}

// Count is how often something happened, by the log of the first to apply it.
func (k *Checks) Count(what string) int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.counts[what]
}

// Counts is a copy of all counts.
func (k *Checks) Counts() map[string]int {
	k.mu.Lock()
	defer k.mu.Unlock()
	out := make(map[string]int, len(k.counts))
	for what, n := range k.counts {
		out[what] = n
	}
	return out
}

// revocation notes that a token is being taken back; to be called before the
// command is sent.
func (k *Checks) revocation(token uint64, now bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.revoked[token] = true
	if now {
		k.forced[token] = true
	}
}

// yield notes that a plain hold is being given up.
func (k *Checks) yield(token uint64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.yielded[token] = true
}

// released notes that a release was acknowledged.
func (k *Checks) released(token uint64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.done[token] = true
}

// grant holds the cluster to I2 and to the promise: when somebody is granted a
// lock, nobody else's grant of it is valid any more, by its own host's clock.
func (k *Checks) grant(lock string, token uint64) {
	k.mu.Lock()
	known := token <= k.tokens[lock]
	if !known {
		k.tokens[lock] = token
		k.counts["granted"]++
	}
	claims := append([]claim(nil), k.watched[lock]...)
	k.mu.Unlock()
	if known {
		return // an answer of once
	}
	k.c.W.Logf("%s is granted with token %d", lock, token)
	for _, x := range claims {
		k.overtaken(x, lock, token)
	}
}

// overtaken fails if a claim is valid though its lock was granted to the next.
func (k *Checks) overtaken(x claim, lock string, newest uint64) {
	holder, _, token := x.grant()
	k.mu.Lock()
	forced := k.forced[token]
	k.mu.Unlock()
	if token < newest && !forced && x.Valid() {
		k.c.W.Fail("%s is granted with token %d while %s's grant with token %d is valid", lock, newest, holder, token)
	}
}

// granted makes a grant known that its holder was told of. It may be late
// already: its lock may have been granted to the next, and then it must not be
// valid.
func (k *Checks) granted(x claim) {
	holder, lock, token := x.grant()
	k.mu.Lock()
	k.watched[lock] = append(k.watched[lock], x)
	k.given[lock] = max(k.given[lock], token)
	newest := k.tokens[lock]
	k.mu.Unlock()
	if token > newest {
		k.c.W.Fail("%s was told of token %d of %s; no replica has granted above %d", holder, token, lock, newest)
	}
	k.overtaken(x, lock, newest)
}

// Now looks at all grants: at most one a lock is valid, the newest.
func (k *Checks) Now() {
	k.mu.Lock()
	watched := make(map[string][]claim, len(k.watched))
	newest := make(map[string]uint64, len(k.watched))
	for lock, claims := range k.watched {
		watched[lock], newest[lock] = append([]claim(nil), claims...), k.tokens[lock]
	}
	k.mu.Unlock()
	for lock, claims := range watched {
		for _, x := range claims {
			k.overtaken(x, lock, newest[lock])
		}
	}
}

// Settled waits until nothing is under way, then looks for leaks: holds and
// waits that no living process knows. within must cover the longest lease.
func (c *Cluster) Settled(within time.Duration) {
	var leak error
	for end := c.W.Now() + within; ; time.Sleep(10 * time.Millisecond) {
		if leak = c.leak(); leak == nil {
			return
		}
		if c.W.Now() > end {
			c.Fatal("not settled within %v: %v", within, leak)
		}
	}
}

// leak names a hold or wait without a believer, or a replica that lags.
func (c *Cluster) leak() error {
	l := c.Leader()
	if l == nil {
		return fmt.Errorf("no leader")
	}
	held, waiting := c.believed()
	var leak error
	var index uint64
	l.Inspect(func(s *fsm.State) {
		v := s.View()
		index = v.Index()
		waits := uint64(0)
		page, _ := v.List(fsm.Filter{Limit: 1000})
		for _, i := range page {
			waits += i.Waiters
			if !held[i.Holder.GetToken()] {
				leak = fmt.Errorf("%s is held with token %d by nobody who knows", i.Lock, i.Holder.GetToken())
			}
		}
		if waits > waiting {
			leak = fmt.Errorf("%d waits in the state, %d known", waits, waiting)
		}
	})
	for _, m := range c.Voters {
		if leak == nil && m.Host.Up() && c.W.AppliedIndex(m.Host)+laggingMax < index {
			leak = fmt.Errorf("%s has applied %d of %d", m.Host.Name, c.W.AppliedIndex(m.Host), index)
		}
	}
	return leak
}

// laggingMax is by how many entries a healthy replica may be behind. Those that
// a snapshot brought were never reported.
const laggingMax = 64

// believed is what living processes think they hold, and how many waits there
// may be for them.
func (c *Cluster) believed() (held map[uint64]bool, waiting uint64) {
	held = make(map[uint64]bool)
	for _, a := range c.Apps() {
		if a.Alive() {
			a.mu.Lock()
			waiting += uint64(a.waiting)
			a.mu.Unlock()
		}
	}
	c.Checks.mu.Lock()
	var claims []claim
	for _, of := range c.Checks.watched {
		claims = append(claims, of...)
	}
	c.Checks.mu.Unlock()
	for _, x := range claims {
		if x.Valid() {
			_, _, token := x.grant()
			held[token] = true
		}
	}
	return held, waiting
}
