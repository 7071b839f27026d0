package sim

import (
	"context"
	"time"

	"github.com/raftlock/raftlock/link/linkpb"
)

// reading is what was known when a linearizable read began: what its answer
// must not be older than.
type reading struct {
	lock   string
	claims []claim
	given  uint64
	index  uint64
	done   map[uint64]bool
}

// Get reads a lock through the agent of m, and holds the answer to what was
// known before.
func (c *Cluster) Get(ctx context.Context, m *Member, lock string) error {
	a := m.Agent()
	if a == nil || !m.Host.Up() {
		return ErrConnectionRefused
	}
	r := c.Checks.begin(lock)
	began := c.W.Now()
	q := &linkpb.Query{Query: &linkpb.Query_Get{Get: &linkpb.GetLock{Lock: lock}}}
	answer, err := a.Sessions().Query(ctx, q)
	if err != nil {
		return err
	}
	if why := c.Checks.contradicted(r, answer); why != "" {
		c.W.Fail("a read of %s by %s from %v, answered from index %d, %s", lock, m.Host.Name, began, answer.Index, why)
	}
	return nil
}

func (k *Checks) begin(lock string) *reading {
	k.mu.Lock()
	defer k.mu.Unlock()
	r := &reading{
		lock: lock, claims: append([]claim(nil), k.watched[lock]...),
		given: k.given[lock], index: k.read, done: make(map[uint64]bool, len(k.done)),
	}
	for token := range k.done {
		r.done[token] = true
	}
	return r
}

// contradicted says what is wrong with an answer; empty: nothing.
func (k *Checks) contradicted(r *reading, answer *linkpb.QueryAnswer) string {
	var token uint64
	for _, l := range answer.Locks {
		token = l.GetHolder().GetToken()
	}
	// One that was valid before and still is was the holder all the time.
	for _, x := range r.claims {
		_, _, held := x.grant()
		k.mu.Lock()
		forced := k.forced[held]
		k.mu.Unlock()
		if held != token && !forced && x.Valid() {
			return "does not name the holder, whose token is " + number(held) + ", but " + number(token)
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	before := k.read
	k.read = max(k.read, answer.Index)
	k.counts["reads"]++
	switch {
	case answer.Index < r.index:
		return "is older than index " + number(r.index) + ", which was read before it began (now " + number(before) + ")"
	case token != 0 && token < r.given:
		return "names token " + number(token) + ", after " + number(r.given) + " was given"
	case r.done[token]:
		return "names token " + number(token) + ", whose release was acknowledged"
	case token > k.tokens[r.lock]:
		return "names token " + number(token) + ", which no replica has granted"
	}
	return ""
}

// read reads from everywhere until the schedule halts.
func (s *Schedule) read(n int) {
	rng := s.c.W.Rand("reader/" + number(uint64(n)))
	members := s.c.Members()
	for s.stop.Err() == nil {
		const patience = 3 * time.Second
		ctx, cancel := context.WithTimeout(s.stop, patience)
		m := members[rng.IntN(len(members))]
		err := s.c.Get(ctx, m, s.lockName(rng))
		if err != nil && s.stop.Err() == nil && ctx.Err() != nil && s.c.Checks.calmFor() > patience {
			s.c.W.Fail("a read by %s was not answered though nothing was wrong: %v", m.Host.Name, err)
		}
		cancel()
		s.pause(rng, 400*time.Millisecond)
	}
}
