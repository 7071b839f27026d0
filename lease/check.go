package lease

import "fmt"

// Check walks the whole table and reports the first inconsistency, for tests
// and simulation.
func (t *Table) Check() error {
	alone, members, waiting, groups := 0, 0, 0, map[*group]bool{}
	for id, s := range t.sessions {
		if s.id != id {
			return fmt.Errorf("session %x is filed as %x", s.id, id)
		}
		if s.group != nil {
			groups[s.group] = true
		}
		switch {
		case s.ending && (s.member || s.group != nil):
			return fmt.Errorf("session %x is ending and confirmed", id)
		case s.ending:
			continue
		case s.member:
			members++
			if !stands(&s.group.members, s, s.place) {
				return fmt.Errorf("member %x is not in its group", id)
			}
			if s.d != span(s.ttl) {
				return fmt.Errorf("member %x has a span of another TTL", id)
			}
		default:
			alone++
			if !stands(&t.alone, s, s.place) {
				return fmt.Errorf("session %x stands nowhere", id)
			}
			if s.group == nil {
				continue
			}
			waiting++
			if s.waiting >= len(s.group.waiting) || s.group.waiting[s.waiting] != s {
				return fmt.Errorf("session %x does not wait in its group", id)
			}
		}
	}
	if alone != t.alone.len() {
		return fmt.Errorf("%d sessions stand alone, %d in the heap", alone, t.alone.len())
	}
	if err := t.checkGroups(groups, members, waiting); err != nil {
		return err
	}
	if err := ordered(&t.alone); err != nil {
		return fmt.Errorf("alone: %w", err)
	}
	return t.holds.check()
}

func (t *Table) checkGroups(groups map[*group]bool, members, waiting int) error {
	filled := 0
	for g := range groups {
		members -= g.members.len()
		waiting -= len(g.waiting)
		if g.gone == (t.links[g.incarnation] == g) {
			return fmt.Errorf("group of %d: gone is %v", g.incarnation, g.gone)
		}
		if err := ordered(&g.members); err != nil {
			return fmt.Errorf("group of %d: %w", g.incarnation, err)
		}
		if g.members.len() == 0 {
			continue
		}
		filled++
		if !stands(&t.groups, g, g.place) {
			return fmt.Errorf("group of %d stands nowhere", g.incarnation)
		}
	}
	if members != 0 || waiting != 0 || filled != t.groups.len() {
		return fmt.Errorf("groups hold sessions that are not theirs: %d members, %d waiting, %d of %d groups",
			members, waiting, filled, t.groups.len())
	}
	return ordered(&t.groups)
}

func (hs *holds) check() error {
	order := 0
	for id, of := range hs.ofSession {
		if len(of) == 0 {
			return fmt.Errorf("session %x is remembered for no hold", id)
		}
		for h, x := range of {
			if x.Hold != h || h.Session != id {
				return fmt.Errorf("hold %v is not its session's", h)
			}
			if x.place == none {
				continue
			}
			if order++; !stands(&hs.order, x, x.place) {
				return fmt.Errorf("hold %v stands nowhere", h)
			}
		}
	}
	if order != hs.order.len() {
		return fmt.Errorf("%d holds, %d ordered", order, hs.order.len())
	}
	return ordered(&hs.order)
}

type ordering[T any] interface {
	item[T]
	comparable
}

func stands[T ordering[T]](h *heap[T], x T, place int) bool {
	return place >= 0 && place < h.len() && h.items[place] == x
}

func ordered[T item[T]](h *heap[T]) error {
	for i := 1; i < h.len(); i++ {
		if h.items[i].before(h.items[(i-1)/2]) {
			return fmt.Errorf("heap out of order at %d", i)
		}
	}
	return nil
}
