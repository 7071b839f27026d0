package lease

import (
	"bytes"
	"time"
)

// Hold names a hold that was revoked: by its session, the sequence of its
// acquire, and its token.
type Hold struct {
	Session    ID
	Seq, Token uint64
}

// hold is a revoked hold's deadline. Its place is none while its release is
// being proposed.
type hold struct {
	Hold
	d     time.Duration
	place int
}

// none is the place of what is in no heap.
const none = -1

func (h *hold) before(o *hold) bool {
	if h.d != o.d {
		return h.d < o.d
	}
	if c := bytes.Compare(h.Session[:], o.Session[:]); c != 0 {
		return c < 0
	}
	return h.Seq < o.Seq
}

func (h *hold) stand(place int) { h.place = place }

type holds struct {
	ofSession map[ID]map[Hold]*hold
	order     heap[*hold]
}

func (hs *holds) named(h Hold) *hold { return hs.ofSession[h.Session][h] }

// Revoke starts the clock of a hold whose mark was applied at now, or that a
// new leadership found marked: no renewal moves it. A repetition changes
// nothing, so that marking again and again postpones nothing.
func (t *Table) Revoke(h Hold, ttl, now time.Duration) {
	if t.holds.named(h) != nil {
		return
	}
	x := &hold{Hold: h, d: Deadline(t.in(now), ttl)}
	if t.holds.ofSession[h.Session] == nil {
		t.holds.ofSession[h.Session] = map[Hold]*hold{}
	}
	t.holds.ofSession[h.Session][h] = x
	t.holds.order.push(x)
}

// Released forgets a revoked hold that is held no more.
func (t *Table) Released(h Hold) {
	x := t.holds.named(h)
	if x == nil {
		return
	}
	if x.place != none {
		t.holds.order.remove(x.place)
	}
	of := t.holds.ofSession[h.Session]
	if delete(of, h); len(of) == 0 {
		delete(t.holds.ofSession, h.Session)
	}
}

// Releasing says that a revoked hold's release is being proposed: ExpiredHolds
// does not return it again. False if it is unknown or was so already.
func (t *Table) Releasing(h Hold) bool {
	x := t.holds.named(h)
	if x == nil || x.place == none {
		return false
	}
	t.holds.order.remove(x.place)
	x.place = none
	return true
}

// NotReleasing takes a Releasing back. The deadline stays.
func (t *Table) NotReleasing(h Hold) {
	if x := t.holds.named(h); x != nil && x.place == none {
		t.holds.order.push(x)
	}
}

// forget drops the revoked holds of a session that ended.
func (hs *holds) forget(id ID) {
	for _, x := range hs.ofSession[id] {
		if x.place != none {
			hs.order.remove(x.place)
		}
	}
	delete(hs.ofSession, id)
}
