package session

import (
	"cmp"
	"maps"
	"slices"
)

// sequences are s's entries in rising order: reconciles name them so, and
// applications hear of them so.
func (s *session) sequences() []uint64 { return slices.Sorted(maps.Keys(s.entries)) }

// choreKeys are s's chores, the end last: what it would void goes before it.
func (s *session) choreKeys() []choreKey {
	return slices.SortedFunc(maps.Keys(s.chores), func(a, b choreKey) int {
		return cmp.Or(cmp.Compare(a.kind, b.kind), cmp.Compare(a.seq, b.seq), cmp.Compare(a.token, b.token))
	})
}
