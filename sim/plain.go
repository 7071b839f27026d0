package sim

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"github.com/raftlock/raftlock/fsm/command"
	"github.com/raftlock/raftlock/lease"
)

func number(n uint64) string { return strconv.FormatUint(n, 10) }

// plainHold is a grant to a plain request, as its caller sees it: by the
// deadline that its agent reckons for it.
type plainHold struct {
	c     *Cluster
	m     *Member
	owner string
	lock  string
	token uint64

	mu sync.Mutex // guards v
	v  time.Duration
}

func (p *plainHold) grant() (holder, lock string, token uint64) {
	return "plain " + p.owner, p.lock, p.token
}

// Valid compares the clock with the deadline. Those who share an owner's name
// share its locks: one's release is the other's.
func (p *plainHold) Valid() bool {
	k := p.c.Checks
	k.mu.Lock()
	gone := k.yielded[p.token] || k.forced[p.token]
	k.mu.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	return !gone && p.m.Host.Clock()() < p.v
}

// extend moves the deadline by an answer, as an agent does for its caller: by
// the TTL in force, which another user of the name may have made longer. Not if
// the hold is revoked.
func (p *plainHold) extend(sent time.Duration, r *command.Result) bool {
	if r.GetCode() != command.Code_CODE_OK || len(r.Standings) != 1 ||
		r.Standings[0].State != command.Standing_STATE_HELD || r.Standings[0].Revoked {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.v = max(p.v, lease.HolderDeadline(sent, time.Duration(r.TtlNanos)))
	return true
}

// plainIDs are the request ids of one owner. They are few, so that each is used
// by several callers, at several agents and after it was answered.
const plainIDs = 3

// plainly works with plain requests until the schedule halts, mostly at the same
// agent. A caller without a session: curl in a loop.
func (s *Schedule) plainly(owner string, n int) {
	rng := s.c.W.Rand(fmt.Sprintf("plain/%s/%d", owner, n))
	members := s.c.Members()
	m := one(rng, members)
	for s.stop.Err() == nil {
		if rng.IntN(3) == 0 {
			m = one(rng, members)
		}
		ask := &command.PlainAcquire{
			Owner: owner, Lock: s.lockName(rng), TtlNanos: uint64(scheduleTTLs[rng.IntN(3)]), Identity: "uid:1000",
		}
		if rng.IntN(3) > 0 {
			ask.RequestId = fmt.Sprintf("%s-%d", owner, rng.IntN(plainIDs))
		}
		s.plainTurn(m, ask, rng)
		s.pause(rng, 700*time.Millisecond)
	}
}

// plainTurn is one acquire and what follows of it.
func (s *Schedule) plainTurn(m *Member, ask *command.PlainAcquire, rng *rand.Rand) {
	a := m.Agent()
	if a == nil || !m.Host.Up() {
		return
	}
	ctx, cancel := context.WithTimeout(s.stop, time.Duration(20+rng.IntN(5000))*time.Millisecond)
	defer cancel()
	clock, ttl := m.Host.Clock(), time.Duration(ask.TtlNanos)
	reply, err := a.Sessions().PlainAcquire(ctx, ask)
	r := reply.Result
	if err == nil && r.Code != command.Code_CODE_OK && r.Code != command.Code_CODE_HELD {
		s.c.W.Fail("a plain acquire was answered %v: %s", r.Code, r.Detail)
	}
	if err != nil || len(r.Standings) != 1 || r.Standings[0].State != command.Standing_STATE_HELD {
		return
	}
	h := &plainHold{c: s.c, m: m, owner: ask.Owner, lock: ask.Lock, token: r.Standings[0].Token}
	h.extend(reply.Sent, r)
	s.c.Checks.count("plain holds")
	s.c.Checks.granted(h)
	for range rng.IntN(4) {
		sent := clock()
		r, err := a.Sessions().Propose(ctx, &command.Command{Kind: &command.Command_PlainRenew{PlainRenew: &command.PlainRenew{
			Owner: h.owner, Lock: h.lock, Token: h.token, TtlNanos: ask.TtlNanos,
		}}})
		if err != nil || !h.extend(sent, r) {
			return
		}
		s.pause(rng, ttl/2)
	}
	if rng.IntN(5) == 0 {
		return // forgotten: its lease ends it
	}
	// Nobody uses it from here on, and so do those who share the name.
	s.c.Checks.yield(h.token)
	r, err = a.Sessions().Propose(ctx, &command.Command{Kind: &command.Command_PlainRelease{PlainRelease: &command.PlainRelease{
		Owner: h.owner, Lock: h.lock, Token: h.token,
	}}})
	if err == nil && r.Code == command.Code_CODE_OK {
		s.c.Checks.released(h.token)
	}
}
