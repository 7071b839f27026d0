package sim

import (
	"fmt"
	"sort"
	"strings"
	"time"
)

// How much is kept. Messages have a ring of their own, so that they do not
// wash the faults out.
const (
	notesMax    = 2000
	messagesMax = 3000
)

// event is one line of the history, formatted when printed.
type event struct {
	seq  uint64
	at   time.Duration
	text string
	key  frameKey
	k    uint64
}

func (e event) String() string {
	if e.key.kind == "" {
		return fmt.Sprintf("%14v   %s", e.at, e.text)
	}
	return fmt.Sprintf("%14v . %s %s", e.at, frameName(e.key, e.k), e.text)
}

// ring keeps the last events.
type ring struct {
	events []event
	next   int
}

func (r *ring) add(e event, limit int) {
	if len(r.events) < limit {
		r.events = append(r.events, e)
		return
	}
	r.events[r.next] = e
	r.next = (r.next + 1) % limit
}

// history is guarded by World.mu.
type history struct {
	seq      uint64
	notes    ring
	messages ring
}

func (h *history) note(e event) {
	h.seq++
	e.seq = h.seq
	h.notes.add(e, notesMax)
}

func (h *history) message(e event) {
	h.seq++
	e.seq = h.seq
	h.messages.add(e, messagesMax)
}

func (h *history) String() string {
	all := append(append([]event(nil), h.notes.events...), h.messages.events...)
	sort.Slice(all, func(i, j int) bool { return all[i].seq < all[j].seq })
	var b strings.Builder
	if dropped := h.seq - uint64(len(all)); dropped > 0 {
		fmt.Fprintf(&b, "(%d older lines are gone)\n", dropped)
	}
	for _, e := range all {
		fmt.Fprintln(&b, e)
	}
	return b.String()
}
