package fsm

import (
	"errors"
	"fmt"

	"github.com/raftlock/raftlock/fsm/command"
)

// ErrInvariant is wrapped by every error of Check.
var ErrInvariant = errors.New("invariant broken")

func violated(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrInvariant, fmt.Sprintf(format, args...))
}

// Check verifies the invariants I1 to I8 of design section 4 as far as one
// state shows them, and that indexes, counts and hash are what the state makes
// them. It walks everything: for tests, simulations and Restore. It must not be
// called within Apply.
func (s *State) Check() error {
	c := &checker{s: s, tokens: map[uint64]bool{}, orders: map[uint64]bool{}, of: map[ID]*counts{}}
	s.uses.Scan(c.use)
	s.sessions.Scan(c.session)
	c.indexes()
	c.header()
	return c.err
}

type counts struct{ waits, holds, answers, singles uint32 }

type checker struct {
	s      *State
	err    error
	sum    uint64
	waits  int
	holds  int
	marked int
	tokens map[uint64]bool
	orders map[uint64]bool
	of     map[ID]*counts
}

// fault keeps the first violation and says whether to go on.
func (c *checker) fault(broken bool, format string, args ...any) bool {
	if broken && c.err == nil {
		c.err = violated(format, args...)
	}
	return c.err == nil
}

func (c *checker) use(u *use) bool {
	x := c.s.session(u.session)
	c.sum += u.hash
	if !c.fault(u.hash != hashUse(u), "I6: use %x/%d: hash is not of what it holds", u.session, u.seq) ||
		!c.fault(x == nil, "I3: use %x/%d of no session", u.session, u.seq) {
		return false
	}
	n := c.of[u.session]
	if n == nil {
		n = &counts{}
		c.of[u.session] = n
	}
	if u.acked || u.kind == useAcked {
		n.singles++
		c.fault(u.seq <= x.mark, "I5: %x/%d acknowledged singly below the mark", u.session, u.seq)
	}
	c.fault(u.seq == 0, "I5: %x: sequence 0 used", u.session)
	switch u.kind {
	case useWait:
		n.waits++
		c.wait(x, u)
	case useHold:
		n.holds++
		c.hold(x, u)
	default:
		if u.kind != useAcked {
			n.answers++
		}
		c.over(x, u)
	}
	return c.err == nil
}

// claim checks what waits and holds share.
func (c *checker) claim(x *session, u *use) {
	c.fault(command.Valid(&command.Command{Session: someID, Seq: 1, Kind: &command.Command_Acquire{
		Acquire: &command.Acquire{Lock: u.lock, Metadata: pairsTo(u.metadata())},
	}}) != "", "I7: %x/%d: lock or metadata out of bounds", u.session, u.seq)
	c.fault(u.gone != 0, "I5: %x/%d is a claim and gone", u.session, u.seq)
	if x.plain == nil {
		c.fault(u.claimed || len(u.requests()) > 0, "%x/%d: plain marks on a client's claim", u.session, u.seq)
		return
	}
	c.fault(u.lock != x.plain.lock || u.seq > x.plain.next || u.acked, "%x/%d is not a plain claim of %q", u.session, u.seq, x.plain.lock)
	c.fault(u.claimed != (len(u.requests()) == 0), "%x/%d: a plain claim that nobody asked for, or twice", u.session, u.seq)
	for i, r := range u.requests() {
		c.fault(r == "" || len(r) > command.NameBytesMax || i > 0 && u.requests()[i-1] >= r, "%x/%d: requests unsorted", u.session, u.seq)
	}
}

func (c *checker) wait(x *session, u *use) {
	c.waits++
	c.claim(x, u)
	q, found := c.s.queue.Get(u)
	c.fault(!found || q != u, "I4: wait %x/%d is not in its queue", u.session, u.seq)
	c.fault(u.order == 0 || u.order > c.s.order || c.orders[u.order], "I4: wait %x/%d: order %d", u.session, u.seq, u.order)
	c.orders[u.order] = true
	c.fault(u.token != 0 || u.revoked || u.claimed, "wait %x/%d has marks of a hold", u.session, u.seq)
	c.fault(x.plain != nil && len(u.requests()) != 1, "plain wait %x/%d of more than one request", u.session, u.seq)
}

func (c *checker) hold(x *session, u *use) {
	c.holds++
	c.claim(x, u)
	if u.revoked {
		c.marked++
	}
	l, _ := c.s.lock(u.lock)
	c.fault(l.holder != u, "I1: hold %x/%d does not hold %q", u.session, u.seq, u.lock)
	c.fault(u.token == 0 || u.token > c.s.token || c.tokens[u.token], "I2: hold %x/%d: token %d", u.session, u.seq, u.token)
	c.tokens[u.token] = true
	c.fault(u.order != 0, "hold %x/%d has the mark of a wait", u.session, u.seq)
}

// over checks a sequence that is neither wait nor hold.
func (c *checker) over(x *session, u *use) {
	c.fault(x.plain != nil, "I5: plain session %x has a cached answer", u.session)
	c.fault(u.seq <= x.mark, "I5: %x/%d is kept below the mark", u.session, u.seq)
	switch u.kind {
	case useGone:
		c.fault(u.gone == 0 || int(u.gone) > int(command.Gone_GONE_INVALID), "%x/%d: gone for no reason", u.session, u.seq)
		c.fault(len(u.lock) > command.NameBytesMax, "I7: %x/%d: name", u.session, u.seq)
	case useAnswered:
		a := u.more.answer
		c.fault(a.kind < answerOpen || a.kind > answerRelease, "%x/%d: answer of kind %d", u.session, u.seq, a.kind)
		c.fault(a.attachment > c.s.attachments, "I8: %x/%d: answer of attachment %d", u.session, u.seq, a.attachment)
	}
}

// someID stands for a session where only the rest of a command matters.
var someID = []byte("0123456789abcdef")

func (c *checker) session(x *session) bool {
	c.sum += x.hash
	c.fault(x.dirty || x.dead, "session %x left dirty or dead", x.id)
	c.fault(x.hash != hashSession(x), "I6: session %x: hash is not of what it holds", x.id)
	n := c.of[x.id]
	if n == nil {
		n = &counts{}
	}
	c.fault(*n != (counts{x.waits, x.holds, x.answers, x.singles}), "session %x counts wrongly", x.id)
	c.fault(x.claims() > command.ClaimsMax, "I7: session %x: %d claims", x.id, x.claims())
	c.fault(x.answers > answersEver, "I7: session %x: %d answers", x.id, x.answers)
	c.fault(x.singles > command.SinglesMax, "I7: session %x: %d singles", x.id, x.singles)
	if x.plain != nil {
		c.plain(x)
	} else {
		c.client(x)
	}
	return c.err == nil
}

func (c *checker) plain(x *session) {
	c.fault(x.id != PlainID(x.plain.owner, x.plain.lock), "plain session %x has not its id", x.id)
	c.fault(x.attachment|x.incarnation|x.mark != 0 || x.agent != "" || len(x.processes) > 0 || x.leaseOnExit ||
		x.secretHash != [command.SecretHashBytes]byte{}, "plain session %x is attached", x.id)
	one := x.holds == 1 && x.waits == 0
	some := x.holds == 0 && x.waits > 0 && x.waits <= command.PlainRequestsMax
	c.fault(!one && !some, "plain session %x: %d holds, %d waits", x.id, x.holds, x.waits)
	c.fault(command.Valid(&command.Command{Kind: &command.Command_PlainAcquire{PlainAcquire: &command.PlainAcquire{
		Owner: x.plain.owner, Lock: x.plain.lock, TtlNanos: x.ttl, Identity: x.identity,
	}}}) != "", "I7: plain session %x out of bounds", x.id)
}

func (c *checker) client(x *session) {
	c.fault(x.attachment == 0 || x.attachment > c.s.attachments, "I8: session %x: attachment %d", x.id, x.attachment)
	c.fault(command.Valid(&command.Command{Session: x.id[:], Seq: 1, Kind: &command.Command_Open{Open: &command.Open{
		SecretHash: x.secretHash[:], Agent: &command.Agent{Name: x.agent, Incarnation: x.incarnation},
		TtlNanos: x.ttl, Identity: x.identity,
	}}}) != "", "I7: session %x out of bounds", x.id)
	ids := map[uint64]bool{}
	for _, p := range x.processes {
		c.fault(ids[p.ID], "session %x: process %d twice", x.id, p.ID)
		c.fault(len(p.BootID) > command.BootIDBytesMax, "I7: session %x: boot id", x.id)
		ids[p.ID] = true
	}
	c.fault(len(x.processes) > command.ProcessesMax, "I7: session %x: %d processes", x.id, len(x.processes))
}

// indexes compares the trees and maps that follow from the uses.
func (c *checker) indexes() {
	s, waiters := c.s, 0
	s.locks.Scan(func(l lock) bool {
		waiters += int(l.waiters)
		if c.fault(l.holder == nil, "I4: %q is free and remembered", l.name) {
			c.fault(s.use(l.holder.session, l.holder.seq) != l.holder, "I1: %q is held by nothing", l.name)
			c.fault(l.waiters > command.WaitersMax, "I7: %q: %d waiters", l.name, l.waiters)
		}
		return c.err == nil
	})
	counted := map[string]uint32{}
	s.queue.Scan(func(u *use) bool { counted[u.lock]++; return true })
	for name, n := range counted {
		l, _ := s.lock(name)
		c.fault(l.waiters != n, "I4: %q counts %d waiters of %d", name, l.waiters, n)
	}
	c.fault(s.locks.Len() != c.holds, "I1: %d locks, %d holds", s.locks.Len(), c.holds)
	c.fault(s.queue.Len() != c.waits || waiters != c.waits, "I4: %d queued, %d counted, %d wait", s.queue.Len(), waiters, c.waits)
	c.fault(s.revoked != c.marked, "%d holds are revoked, %d counted", c.marked, s.revoked)
	c.identities()
}

func (c *checker) identities() {
	counted := map[string]uint32{}
	attached := map[uint64]bool{}
	c.s.sessions.Scan(func(x *session) bool {
		counted[x.identity]++
		c.fault(x.attachment != 0 && attached[x.attachment], "I8: attachment %d names two sessions", x.attachment)
		attached[x.attachment] = true
		return true
	})
	c.fault(len(counted) != len(c.s.identities), "%d identities, %d counted", len(counted), len(c.s.identities))
	for identity, n := range counted {
		c.fault(n != c.s.identities[identity] || n > command.SessionsMax, "I7: identity %q: %d sessions", identity, n)
	}
}

func (c *checker) header() {
	s := c.s
	c.fault(s.sum != c.sum, "I6: the hash kept is not the hash of the state")
	c.fault(len(s.dirty) > 0, "sessions left dirty")
	c.fault(s.token >= command.TokenLimit, "I2: token %d", s.token)
	c.fault(s.version < command.VersionFirst, "cluster version %d", s.version)
	c.fault(len(s.clusterID) > command.NameBytesMax, "I7: cluster id")
}
