package lease

import (
	"bytes"
	"time"

	"github.com/raftlock/raftlock/internal/mutant"
)

// ID names a session.
type ID = [16]byte

// Table holds the deadlines of one leadership. Its zero value is not ready:
// New makes one.
//
// A session that no beat has spoken for, or whose TTL just changed, or that the
// last beat excepted, or that is plain, stands alone with a deadline of its
// own. Every other one is a member of the group of its link, which has one base
// for all.
type Table struct {
	sessions map[ID]*session
	// alone orders the sessions with a deadline of their own by it; ending
	// ones are in no heap.
	alone heap[*session]
	// links has the group of each agent's present link, once a session was
	// confirmed there.
	links map[uint64]*group
	// groups orders by their earliest deadline the groups that have members,
	// those of links that are gone among them.
	groups heap[*group]
	holds  holds
	// shift is how far all deadlines were moved. Inside, every time is less by
	// it; only in and out convert.
	shift time.Duration
}

type session struct {
	id          ID
	attachment  uint64
	incarnation uint64
	ttl         time.Duration
	// d is the deadline of a session that stands alone; of a member, the span
	// from its group's base to it. Either orders the heap it is in.
	d time.Duration
	// place is where it stands in that heap.
	place int
	// group is that of the link it was confirmed on: it counts as confirmed as
	// long as that link is there.
	group  *group
	member bool
	// waiting is its place in group.waiting; excepted the number of the last
	// beat there that excepted it.
	waiting  int
	excepted uint64
	ending   bool
	// disputed: the log renewed it after its end was proposed.
	disputed bool
}

func (s *session) before(o *session) bool {
	if s.d != o.d {
		return s.d < o.d
	}
	return bytes.Compare(s.id[:], o.id[:]) < 0
}

func (s *session) stand(place int) { s.place = place }

// deadline is D, in the table's time.
func (s *session) deadline() time.Duration {
	if s.member {
		return later(s.group.base, s.d)
	}
	return s.d
}

// New makes an empty table.
func New() *Table {
	return &Table{sessions: map[ID]*session{}, links: map[uint64]*group{}, holds: holds{ofSession: map[ID]map[Hold]*hold{}}}
}

func (t *Table) in(now time.Duration) time.Duration { return now - t.shift }

func (t *Table) out(d time.Duration) time.Duration { return later(d, t.shift) }

// Open is for a session that was opened or resumed, and for each one that a
// new leadership found in the state: its base is now. One that is known
// already moves to the attachment given, and stands unconfirmed and not
// ending: a resume undoes an end that names the former attachment. Its D does
// not go back. An incarnation of 0 makes it plain.
func (t *Table) Open(id ID, attachment, incarnation uint64, ttl, now time.Duration) {
	s, d := t.sessions[id], Deadline(t.in(now), ttl)
	if s == nil {
		s = &session{id: id, d: d}
		t.sessions[id] = s
		t.alone.push(s)
	}
	t.settle(s, max(d, s.deadline()))
	t.leave(s)
	t.revive(s)
	s.attachment, s.incarnation, s.ttl = attachment, incarnation, ttl
}

// Renew is for a plain session whose holder or waiter asked again: its base is
// now. Of several users of one owner name, none can shorten what another was
// promised: with a smaller TTL D stays where it is. It reports whether D holds
// for the answer; false if the session is unknown or attached to an agent, and
// if it is ending (see MayEnd).
func (t *Table) Renew(id ID, ttl, now time.Duration) bool {
	s := t.sessions[id]
	if s == nil || s.incarnation != 0 {
		return false
	}
	if s.ending {
		s.disputed, s.ttl = true, ttl
		return false
	}
	t.settle(s, max(s.d, Deadline(t.in(now), ttl)))
	s.ttl = ttl
	return true
}

// ChangeTTL is for a session whose TTL was changed by the log: its base is now.
// A smaller TTL may bring D nearer: its holder lowered V before it asked, to
// the last confirmed sending + 0.98 of the new TTL, and base is not before
// that sending. It reports whether D holds for the answer; false if the
// session is unknown, or ending (see MayEnd).
func (t *Table) ChangeTTL(id ID, ttl, now time.Duration) bool {
	s := t.sessions[id]
	if s == nil {
		return false
	}
	if s.ending {
		s.disputed, s.ttl = true, ttl // what NotEnding reckons with
		return false
	}
	base := max(t.in(now), s.deadline()-span(s.ttl))
	t.settle(s, Deadline(base, ttl))
	s.ttl = ttl
	return true
}

// Remove forgets a session that the log ended, and its revoked holds.
func (t *Table) Remove(id ID) {
	t.holds.forget(id)
	if s := t.sessions[id]; s != nil {
		t.retire(s)
		delete(t.sessions, id)
	}
}

// Ending stops renewing a session, because its end is about to be proposed. It
// keeps the D it has, Expired does not return it again, and it is no member
// any more: the caller says so on its link before any later beat's answer. It
// reports false for a session unknown or ending already.
func (t *Table) Ending(id ID) bool {
	s := t.sessions[id]
	if s == nil || s.ending {
		return false
	}
	t.retire(s)
	s.ending = true
	return true
}

// MayEnd reports whether the end of an ending session may still be logged. To
// be asked when the proposal's turn has come: between Ending and then the log
// may have renewed the session (ChangeTTL or Renew returned false) and
// answered so, and the answer moved the holder's V although D stood still.
// Such an end is to be withdrawn, then NotEnding called.
func (t *Table) MayEnd(id ID) bool {
	s := t.sessions[id]
	return s != nil && s.ending && !s.disputed
}

// NotEnding takes an Ending back, when the end is known not to have been logged
// and never to be. The base is now, so that an agent which was told of the
// ending has time to reconcile; the session is unconfirmed until it did.
func (t *Table) NotEnding(id ID, now time.Duration) {
	s := t.sessions[id]
	if s == nil || !s.ending {
		return
	}
	t.revive(s)
	t.settle(s, max(s.d, Deadline(t.in(now), s.ttl)))
}

// Deadline is D of a session, an ending one too; false if it is unknown.
func (t *Table) Deadline(id ID) (time.Duration, bool) {
	s := t.sessions[id]
	if s == nil {
		return 0, false
	}
	return t.out(s.deadline()), true
}

// Shift moves every deadline by gap, for a pause of the leader's own in which
// no beat could be read. A gap below zero does nothing.
func (t *Table) Shift(gap time.Duration) {
	if gap <= 0 || mutant.On("lease-shift") {
		return
	}
	t.shift += gap
}

// Len is the number of sessions, ending ones too.
func (t *Table) Len() int { return len(t.sessions) }

// settle makes a session stand alone with deadline d. A confirmed one waits
// for the next beat to take it into the group.
func (t *Table) settle(s *session, d time.Duration) {
	if s.member {
		t.part(s)
		s.group.await(s)
	}
	s.d = d
	if !s.ending {
		t.alone.fix(s.place)
	}
}

// retire takes a session out of every heap, keeping its deadline.
func (t *Table) retire(s *session) {
	if s.ending {
		return
	}
	if s.member {
		t.part(s)
	} else {
		t.leave(s)
	}
	s.group = nil
	t.alone.remove(s.place)
}

// revive puts an ending session back among those that stand alone.
func (t *Table) revive(s *session) {
	if s.ending {
		s.ending, s.disputed = false, false
		t.alone.push(s)
	}
}
