package sim

import (
	"fmt"
	"hash/fnv"
)

// safety is what the checks of Raft itself remember, guarded by World.mu.
type safety struct {
	applied map[uint64]applied
	leaders map[uint64]string
	highest map[string]uint64
}

type applied struct {
	by   string
	hash string
	data uint64
}

func newSafety() safety {
	return safety{applied: map[uint64]applied{}, leaders: map[uint64]string{}, highest: map[string]uint64{}}
}

// Applied reports that a replica applied the entry data at index, and the hash
// of its state afterwards. Replicas must agree on both at every index. A
// replica that restored a snapshot goes on from there.
func (w *World) Applied(h *Host, index uint64, hash string, data []byte) {
	sum := fnv.New64a()
	sum.Write(data)
	a := applied{by: fmt.Sprintf("%s/%d", h.Name, h.Incarnation()), hash: hash, data: sum.Sum64()}
	w.mu.Lock()
	first, seen := w.safety.applied[index]
	if !seen {
		w.safety.applied[index] = a
	}
	w.safety.highest[h.Name] = max(w.safety.highest[h.Name], index)
	w.mu.Unlock()
	if seen && (first.hash != a.hash || first.data != a.data) {
		w.Fail("replicas differ at index %d: %s has state %x after entry %x, %s has %x after %x",
			index, first.by, first.hash, first.data, a.by, a.hash, a.data)
	}
}

// AppliedIndex is the highest index that any incarnation of the host reported.
func (w *World) AppliedIndex(h *Host) uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.safety.highest[h.Name]
}

// Leader reports that the host leads a term. A term has one leader.
func (w *World) Leader(term uint64, h *Host) {
	w.mu.Lock()
	other, seen := w.safety.leaders[term]
	if !seen {
		w.safety.leaders[term] = h.Name
		w.logLocked(fmt.Sprintf("%s: leads term %d", h.Name, term))
	}
	w.mu.Unlock()
	if seen && other != h.Name {
		w.Fail("two leaders of term %d: %s and %s", term, other, h.Name)
	}
}

// Terms counts the terms that had a leader.
func (w *World) Terms() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.safety.leaders)
}
