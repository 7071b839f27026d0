package lease

import (
	"bytes"
	"time"
)

// Expired is a session past its deadline D.
type Expired struct {
	ID          ID
	Attachment  uint64
	Incarnation uint64
	D           time.Duration
}

// Expired looks which sessions have D < now, at most so many of them, oldest first
// (of the same age, by id). It changes nothing. Ending ones are not among them.
func (t *Table) Expired(now time.Duration, most int) []Expired {
	var found []Expired
	w := walk{until: t.in(now)}
	w.own(&t.alone, nil, 0)
	w.groups(&t.groups, 0)
	for len(found) < most && w.next.len() > 0 {
		c := w.next.remove(0)
		if c.g != nil && c.s == nil {
			w.own(&c.g.members, c.g, 0)
			w.groups(&t.groups, 2*c.place+1)
			w.groups(&t.groups, 2*c.place+2)
			continue
		}
		found = append(found, Expired{ID: c.s.id, Attachment: c.s.attachment, Incarnation: c.s.incarnation, D: t.out(c.d)})
		in := &t.alone
		if c.g != nil {
			in = &c.g.members
		}
		w.own(in, c.g, 2*c.place+1)
		w.own(in, c.g, 2*c.place+2)
	}
	return found
}

// ExpiredHolds looks which revoked holds have D < now, at most so many of them,
// oldest first. It changes nothing. Those being released are not among them.
func (t *Table) ExpiredHolds(now time.Duration, most int) []Hold {
	var found []Hold
	order := t.holds.order.items
	var next heap[holdAt]
	visit := func(i int) {
		if i < len(order) && order[i].d < t.in(now) {
			next.push(holdAt{order[i], i})
		}
	}
	visit(0)
	for len(found) < most && next.len() > 0 {
		h := next.remove(0)
		found = append(found, h.hold.Hold)
		visit(2*h.place + 1)
		visit(2*h.place + 2)
	}
	return found
}

// Next is the earliest deadline of a session that is not ending or a revoked
// hold that is not being released; false if there is none. Nothing expires
// before it.
func (t *Table) Next() (next time.Duration, ok bool) {
	consider := func(d time.Duration) {
		if !ok || d < next {
			next, ok = d, true
		}
	}
	if t.alone.len() > 0 {
		consider(t.alone.items[0].d)
	}
	if t.groups.len() > 0 {
		consider(t.groups.items[0].earliest())
	}
	if t.holds.order.len() > 0 {
		consider(t.holds.order.items[0].d)
	}
	if !ok {
		return 0, false
	}
	return t.out(next), true
}

// walk visits heaps in their order without popping: of what was visited, the
// children are next. Groups are heaps inside a heap.
type walk struct {
	until time.Duration
	next  heap[step]
}

// step is a group, or a session alone (g is nil) or of group g, to be visited.
type step struct {
	d     time.Duration
	place int
	g     *group
	s     *session
}

// before puts groups before sessions of the same deadline, so that all of
// these are known before the first of them is returned.
func (c step) before(o step) bool {
	switch {
	case c.d != o.d:
		return c.d < o.d
	case c.s == nil || o.s == nil:
		return c.s == nil && o.s != nil
	}
	return bytes.Compare(c.s.id[:], o.s.id[:]) < 0
}

func (step) stand(int) {}

func (w *walk) own(in *heap[*session], g *group, i int) {
	if i >= in.len() {
		return
	}
	if s := in.items[i]; s.deadline() < w.until {
		w.next.push(step{d: s.deadline(), place: i, g: g, s: s})
	}
}

func (w *walk) groups(in *heap[*group], i int) {
	if i >= in.len() {
		return
	}
	if g := in.items[i]; g.earliest() < w.until {
		w.next.push(step{d: g.earliest(), place: i, g: g})
	}
}

// holdAt is a hold to be visited, and where it stands.
type holdAt struct {
	hold  *hold
	place int
}

func (h holdAt) before(o holdAt) bool { return h.hold.before(o.hold) }

func (holdAt) stand(int) {}
