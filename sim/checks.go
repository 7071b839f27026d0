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
	// tokens is the newest token granted of each lock, and of the cluster.
	tokens  map[string]uint64
	highest uint64
	// index is the last one applied anywhere, term that of its leadership.
	index, term uint64
	// watched are the handles whose lock may still be granted to somebody.
	watched map[string][]*Handle
	counts  map[string]int
}

func newChecks(c *Cluster) *Checks {
	return &Checks{
		c: c, tokens: make(map[string]uint64),
		watched: make(map[string][]*Handle), counts: make(map[string]int),
	}
}

// observer is called for every entry that a replica of h applied.
func (k *Checks) observer(h *Host) func(*fsm.State, fsm.Outcome) {
	return func(s *fsm.State, o fsm.Outcome) {
		if every := max(1, k.c.cfg.CheckEvery); o.Index%every == 0 {
			if err := s.Check(); err != nil {
				k.c.W.Fail("%s at index %d: %v", h.Name, o.Index, err)
			}
		}
		k.c.W.Applied(h, o.Index, strconv.FormatUint(s.Hash(), 16), nil)
		if k.first(o.Index, s.Term()) {
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
	}
	return true
}

// outcome looks at what an entry granted, when the first replica applied it.
func (k *Checks) outcome(o fsm.Outcome) {
	for i, r := range o.Results {
		for _, st := range r.GetStandings() {
			if st.State == command.Standing_STATE_HELD {
				k.grant(st.Lock, st.Token)
			}
		}
		for _, e := range o.Events[i] {
			k.count(eventNames[e.Kind])
			switch {
			case e.Kind == fsm.EventGranted:
				k.grant(e.Lock, e.Token)
			case e.Kind == fsm.EventEnded && e.Reason == command.EndReason_END_REASON_EXPIRED:
				k.count("expired")
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

// grant holds the cluster to I2 and to the promise: when somebody is granted a
// lock, nobody else's handle for it is valid any more, by its own host's clock.
func (k *Checks) grant(lock string, token uint64) {
	k.mu.Lock()
	known := token <= k.tokens[lock]
	if !known {
		k.tokens[lock] = token
		k.highest = max(k.highest, token)
		k.counts["granted"]++
	}
	handles := append([]*Handle(nil), k.watched[lock]...)
	k.mu.Unlock()
	if known {
		return // an answer of once
	}
	for _, h := range handles {
		if h.Token < token && h.Valid() {
			k.c.W.Fail("%s was granted with token %d while %s's handle with token %d is valid", lock, token, h.App.Name, h.Token)
		}
	}
}

// granted makes a handle known. It may be late already: its lock may have been
// granted to the next, and then it must not be valid.
func (k *Checks) granted(h *Handle) {
	k.mu.Lock()
	k.watched[h.Name] = append(k.watched[h.Name], h)
	newest := k.tokens[h.Name]
	k.mu.Unlock()
	if h.Token < newest && h.Valid() {
		k.c.W.Fail("%s's handle of %s with token %d is valid while token %d is granted", h.App.Name, h.Name, h.Token, newest)
	}
}

// Now looks at all handles: at most one a lock is valid, the newest.
func (k *Checks) Now() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for name, handles := range k.watched {
		for _, h := range handles {
			if h.Token < k.tokens[name] && h.Valid() {
				k.c.W.Fail("%s's handle of %s with token %d became valid again; newest is %d", h.App.Name, name, h.Token, k.tokens[name])
			}
		}
	}
}

// Settled waits until nothing is under way, then looks for leaks: holds and
// waits that no living process knows. within must cover the longest lease.
func (c *Cluster) Settled(within time.Duration) {
	c.Wait(within, "settled cluster without leaks", func() bool { return c.leak() == nil })
}

// Leak names a hold or wait without a believer, or nil.
func (c *Cluster) leak() error {
	l := c.Leader()
	if l == nil {
		return fmt.Errorf("no leader")
	}
	held := make(map[uint64]bool)
	waiting := 0
	for _, a := range c.Apps() {
		if !a.Alive() {
			continue
		}
		a.mu.Lock()
		waiting += a.waiting
		for _, h := range a.handles {
			if h.Valid() {
				held[h.Token] = true
			}
		}
		a.mu.Unlock()
	}
	var leak error
	l.Inspect(func(s *fsm.State) {
		v := s.View()
		waits := uint64(0)
		page, _ := v.List(fsm.Filter{Limit: 1000})
		for _, i := range page {
			waits += i.Waiters
			if !held[i.Holder.GetToken()] && !i.Plain {
				leak = fmt.Errorf("%s is held with token %d by nobody who knows", i.Lock, i.Holder.GetToken())
			}
		}
		if waits > uint64(waiting) {
			leak = fmt.Errorf("%d waits in the state, %d known", waits, waiting)
		}
	})
	return leak
}
