package raftlock

import "slices"

// ackAboveMax bounds what one request names above the mark. Whatever does not
// fit is named when the mark has moved.
const ackAboveMax = 1024

// acks is what was answered: everything up to mark, and the sequences above.
type acks struct {
	mark  uint64
	above []uint64 // rising
}

// add notes that seq needs no answer any more. Adding twice is harmless.
func (a *acks) add(seq uint64) {
	if seq <= a.mark {
		return
	}
	at, found := slices.BinarySearch(a.above, seq)
	if found {
		return
	}
	a.above = slices.Insert(a.above, at, seq)
	n := 0
	for n < len(a.above) && a.above[n] == a.mark+1 {
		a.mark++
		n++
	}
	a.above = slices.Delete(a.above, 0, n)
}

// named returns what a request carries; the slice is the caller's.
func (a *acks) named() (uint64, []uint64) {
	return a.mark, slices.Clone(a.above[:min(len(a.above), ackAboveMax)])
}
