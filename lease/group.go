package lease

import (
	"math"
	"time"

	"github.com/raftlock/raftlock/internal/mutant"
)

// group is what one link's beats speak for. When the link is gone, the group
// stays for its members' deadlines, but no beat reaches it.
type group struct {
	incarnation uint64
	gone        bool
	// base is when the last beat arrived.
	base time.Duration
	// beats counts them, to mark the excepted of each.
	beats uint64
	// members are ordered by TTL.
	members heap[*session]
	// waiting are confirmed but stand alone: newer than the last beat, or
	// excepted by it. The next one looks at each of them.
	waiting []*session
	place   int
}

func (g *group) before(o *group) bool {
	if a, b := g.earliest(), o.earliest(); a != b {
		return a < b
	}
	return g.incarnation < o.incarnation
}

func (g *group) stand(place int) { g.place = place }

// earliest is the first deadline in a group that has members.
func (g *group) earliest() time.Duration {
	shortest := g.members.items[0]
	if mutant.On("lease-ttl-min") {
		shortest = g.members.items[g.members.len()-1]
	}
	return later(g.base, shortest.d)
}

func (g *group) await(s *session) {
	s.waiting = len(g.waiting)
	g.waiting = append(g.waiting, s)
}

func (g *group) unwait(s *session) {
	last := len(g.waiting) - 1
	moved := g.waiting[last]
	g.waiting[s.waiting], moved.waiting = moved, s.waiting
	g.waiting[last] = nil
	g.waiting = g.waiting[:last]
}

// Confirm makes an agent's beats speak for a session, from the next one that
// arrives: it was answered on that agent's link, in a reconcile page or by an
// open or resume. Until then its base stays what it is. False if the session is
// unknown, ending, or attached otherwise; a plain one is never confirmed.
//
// Only for the agent's present link: Unlink comes before the first Confirm of
// a new one.
func (t *Table) Confirm(id ID, attachment, incarnation uint64) bool {
	s := t.sessions[id]
	if s == nil || s.ending || incarnation == 0 ||
		s.attachment != attachment || s.incarnation != incarnation {
		return false
	}
	g := t.links[incarnation]
	if g == nil {
		g = &group{incarnation: incarnation, base: math.MinInt64 / 2}
		t.links[incarnation] = g
	}
	if s.group == g {
		return true
	}
	t.settle(s, s.deadline())
	t.leave(s)
	s.group, s.excepted = g, 0
	g.await(s)
	return true
}

// Beat is the arrival of a beat on an agent's link: the base of every session
// confirmed there is now, but of those excepted. The list is complete each
// time: who is missing from it is spoken for again. Sessions in it that are not
// confirmed there are passed over.
func (t *Table) Beat(incarnation uint64, now time.Duration, except []ID) {
	now = t.in(now)
	if mutant.On("lease-newer") {
		t.renewAll(now, func(s *session) bool {
			return s.incarnation == incarnation && !s.ending && (s.group == nil || s.group.gone)
		})
	}
	if mutant.On("lease-ending") {
		t.renewAll(now, func(s *session) bool { return s.incarnation == incarnation && s.ending })
	}
	g := t.links[incarnation]
	if g == nil {
		return
	}
	g.beats++
	if !mutant.On("lease-except") {
		t.except(g, except)
	}
	if now > g.base {
		g.base = now
		if g.members.len() > 0 {
			t.groups.fix(g.place)
		}
	}
	t.gather(g)
}

// except makes the excepted members of g stand alone, with the base that the
// last beat gave them.
func (t *Table) except(g *group, ids []ID) {
	for _, id := range ids {
		s := t.sessions[id]
		if s == nil || s.group != g {
			continue
		}
		s.excepted = g.beats
		t.settle(s, s.deadline())
	}
}

// gather takes into the group who waited for this beat. One whose own deadline
// is later than the group would give it (readings out of order, a shift longer
// than the pause, a former TTL) goes on waiting: D never goes back.
func (t *Table) gather(g *group) {
	for i := len(g.waiting) - 1; i >= 0; i-- {
		s := g.waiting[i]
		if s.excepted == g.beats || s.d > Deadline(g.base, s.ttl) {
			continue
		}
		g.unwait(s)
		t.alone.remove(s.place)
		t.join(s)
	}
}

// Unlink ends an agent's link: nothing is confirmed for it any more, and each
// session keeps the deadline it has.
func (t *Table) Unlink(incarnation uint64) {
	g := t.links[incarnation]
	if g == nil {
		return
	}
	delete(t.links, incarnation)
	g.gone = true
	// Those who wait stand alone already. They may keep pointing here.
}

// join makes a session that is in no heap a member of its group.
func (t *Table) join(s *session) {
	g := s.group
	s.d, s.member = span(s.ttl), true
	g.members.push(s)
	if g.members.len() == 1 {
		t.groups.push(g)
	} else {
		t.groups.fix(g.place)
	}
}

// part makes a member stand alone with the deadline it has. It still is of the
// group, and its caller says whether it waits there.
func (t *Table) part(s *session) {
	g, d := s.group, s.deadline()
	if g.members.len() == 1 {
		// Before the group has no earliest deadline to compare by.
		t.groups.remove(g.place)
		g.members.remove(s.place)
	} else {
		g.members.remove(s.place)
		t.groups.fix(g.place)
	}
	s.member, s.d = false, d
	t.alone.push(s)
}

// leave ends a confirmation of one that stands alone.
func (t *Table) leave(s *session) {
	if s.group != nil {
		s.group.unwait(s)
		s.group = nil
	}
}

// renewAll is what the rules about whom a beat speaks for guard against.
func (t *Table) renewAll(now time.Duration, of func(*session) bool) {
	for _, s := range t.sessions {
		if d := Deadline(now, s.ttl); of(s) && d > s.deadline() {
			t.settle(s, d)
		}
	}
}
