package lease

import (
	"fmt"
	"testing"
	"time"
)

// sized makes a table of n sessions of ten agents, all confirmed and beaten
// for, with TTLs of 10 to 40 s.
func sized(n int) *Table {
	t := New()
	for i := range n {
		id, agent := name(i), uint64(1+i%10)
		t.Open(id, 1, agent, time.Duration(10+i%31)*time.Second, 0)
		t.Confirm(id, 1, agent)
	}
	for agent := range uint64(10) {
		t.Beat(agent+1, time.Second, nil)
	}
	return t
}

var sizes = []int{1_000, 1_000_000}

func BenchmarkBeat(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			t, except := sized(n), []ID{name(0), name(10)}
			b.ResetTimer()
			for i := range b.N {
				t.Beat(1, time.Duration(i)*time.Microsecond, except[:i%3])
			}
		})
	}
}

// BenchmarkExpired finds 64 of those that all expired.
func BenchmarkExpired(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			t := sized(n)
			b.ResetTimer()
			for b.Loop() {
				if len(t.Expired(time.Hour, 64)) != 64 {
					b.Fatal("not found")
				}
			}
		})
	}
}

// BenchmarkRemove removes a member and, so that the size stays, opens and
// confirms it again and lets a beat take it in.
func BenchmarkRemove(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			t := sized(n)
			b.ResetTimer()
			for i := range b.N {
				id, agent := name(i%n), uint64(1+i%n%10)
				t.Remove(id)
				t.Open(id, 1, agent, 10*time.Second, time.Second)
				t.Confirm(id, 1, agent)
				t.Beat(agent, time.Second, nil)
			}
		})
	}
}
