package lease

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"time"
)

// model says of every session by itself what the table keeps in groups and
// heaps. It shares no code with it.
type model struct {
	sessions map[ID]*modelSession
	holds    map[Hold]*modelHold
	// heard is the latest beat of each link.
	heard map[uint64]time.Duration
}

type modelSession struct {
	attachment, incarnation     uint64
	ttl, d                      time.Duration
	confirmed, ending, disputed bool
}

type modelHold struct {
	d         time.Duration
	releasing bool
}

func newModel() *model {
	return &model{map[ID]*modelSession{}, map[Hold]*modelHold{}, map[uint64]time.Duration{}}
}

// reach is 1.01 of a TTL that is a multiple of 100 ns.
func reach(ttl time.Duration) time.Duration { return ttl * 101 / 100 }

func (m *model) open(id ID, attachment, incarnation uint64, ttl, now time.Duration) {
	d := now + reach(ttl)
	if s := m.sessions[id]; s != nil {
		d = max(d, s.d)
	}
	m.sessions[id] = &modelSession{attachment: attachment, incarnation: incarnation, ttl: ttl, d: d}
}

func (m *model) confirm(id ID, attachment, incarnation uint64) bool {
	s := m.sessions[id]
	if s == nil || s.ending || incarnation == 0 || s.attachment != attachment || s.incarnation != incarnation {
		return false
	}
	s.confirmed = true
	if _, ok := m.heard[incarnation]; !ok {
		m.heard[incarnation] = -1 << 40
	}
	return true
}

func (m *model) beat(incarnation uint64, now time.Duration, except []ID) {
	if _, ok := m.heard[incarnation]; !ok {
		return
	}
	m.heard[incarnation] = max(m.heard[incarnation], now)
	for id, s := range m.sessions {
		if s.incarnation == incarnation && s.confirmed && !slices.Contains(except, id) {
			s.d = max(s.d, m.heard[incarnation]+reach(s.ttl))
		}
	}
}

func (m *model) unlink(incarnation uint64) {
	delete(m.heard, incarnation)
	for _, s := range m.sessions {
		if s.incarnation == incarnation {
			s.confirmed = false
		}
	}
}

func (m *model) renew(id ID, ttl, now time.Duration) bool {
	s := m.sessions[id]
	if s == nil || s.incarnation != 0 {
		return false
	}
	if s.disputed = s.disputed || s.ending; s.ending {
		s.ttl = ttl
		return false
	}
	s.d, s.ttl = max(s.d, now+reach(ttl)), ttl
	return true
}

func (m *model) changeTTL(id ID, ttl, now time.Duration) bool {
	s := m.sessions[id]
	if s == nil {
		return false
	}
	if s.disputed = s.disputed || s.ending; s.ending {
		s.ttl = ttl
		return false
	}
	heard := max(now, s.d-reach(s.ttl))
	s.d, s.ttl = heard+reach(ttl), ttl
	return true
}

func (m *model) remove(id ID) {
	delete(m.sessions, id)
	for h := range m.holds {
		if h.Session == id {
			delete(m.holds, h)
		}
	}
}

func (m *model) beginEnd(id ID) bool {
	s := m.sessions[id]
	if s == nil || s.ending {
		return false
	}
	s.ending, s.confirmed = true, false
	return true
}

func (m *model) notEnding(id ID, now time.Duration) {
	if s := m.sessions[id]; s != nil && s.ending {
		s.ending, s.disputed = false, false
		s.d = max(s.d, now+reach(s.ttl))
	}
}

func (m *model) revoke(h Hold, ttl, now time.Duration) {
	if m.holds[h] == nil {
		m.holds[h] = &modelHold{d: now + reach(ttl)}
	}
}

func (m *model) releasing(h Hold, now bool) bool {
	if x := m.holds[h]; x != nil && x.releasing != now {
		x.releasing = now
		return true
	}
	return false
}

func (m *model) shift(gap time.Duration) {
	for _, s := range m.sessions {
		s.d += gap
	}
	for _, h := range m.holds {
		h.d += gap
	}
	for i := range m.heard {
		m.heard[i] += gap
	}
}

func (m *model) expired(now time.Duration) []Expired {
	var found []Expired
	for id, s := range m.sessions {
		if !s.ending && s.d < now {
			found = append(found, Expired{ID: id, Attachment: s.attachment, Incarnation: s.incarnation, D: s.d})
		}
	}
	slices.SortFunc(found, func(a, b Expired) int {
		return cmp.Or(cmp.Compare(a.D, b.D), bytes.Compare(a.ID[:], b.ID[:]))
	})
	return found
}

func (m *model) expiredHolds(now time.Duration) []Hold {
	var found []Hold
	for h, x := range m.holds {
		if !x.releasing && x.d < now {
			found = append(found, h)
		}
	}
	slices.SortFunc(found, func(a, b Hold) int {
		return cmp.Or(cmp.Compare(m.holds[a].d, m.holds[b].d), bytes.Compare(a.Session[:], b.Session[:]), cmp.Compare(a.Seq, b.Seq))
	})
	return found
}

func (m *model) next() (next time.Duration, ok bool) {
	for _, s := range m.sessions {
		if !s.ending && (!ok || s.d < next) {
			next, ok = s.d, true
		}
	}
	for _, h := range m.holds {
		if !h.releasing && (!ok || h.d < next) {
			next, ok = h.d, true
		}
	}
	return next, ok
}

// differs compares everything that can be seen of a table, at now.
func (m *model) differs(t *Table, now time.Duration) error {
	if err := t.Check(); err != nil {
		return err
	}
	if t.Len() != len(m.sessions) {
		return fmt.Errorf("Len %d, want %d", t.Len(), len(m.sessions))
	}
	for id, s := range m.sessions {
		if d, ok := t.Deadline(id); !ok || d != s.d {
			return fmt.Errorf("D of %x is %v, want %v", id[:1], d, s.d)
		}
		if may := s.ending && !s.disputed; t.MayEnd(id) != may {
			return fmt.Errorf("MayEnd of %x is not %v", id[:1], may)
		}
	}
	want := m.expired(now)
	for _, most := range []int{0, 1, 2, len(want) + 1} {
		if got := t.Expired(now, most); !slices.Equal(got, want[:min(most, len(want))]) {
			return fmt.Errorf("Expired(%v, %d) is %v of %v", now, most, got, want)
		}
	}
	wantHolds := m.expiredHolds(now)
	for _, most := range []int{1, len(wantHolds) + 1} {
		if got := t.ExpiredHolds(now, most); !slices.Equal(got, wantHolds[:min(most, len(wantHolds))]) {
			return fmt.Errorf("ExpiredHolds(%v, %d) is %v of %v", now, most, got, wantHolds)
		}
	}
	got, gotOK := t.Next()
	if next, ok := m.next(); got != next || gotOK != ok {
		return fmt.Errorf("Next is %v %v, want %v %v", got, gotOK, next, ok)
	}
	return nil
}
