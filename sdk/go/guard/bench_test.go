package guard

import (
	"path/filepath"
	"strconv"
	"sync/atomic"
	"testing"
)

func BenchmarkCheckSeen(b *testing.B) {
	g := New()
	for b.Loop() {
		if err := g.Check("a", 7); err != nil {
			b.Fatal(err)
		}
	}
}

// Rising tokens of as many resources as there are callers: each waits for a
// sync, which they share.
func BenchmarkCheckOnDisk(b *testing.B) {
	for _, callers := range []int{1, 16, 64} {
		b.Run(strconv.Itoa(callers), func(b *testing.B) {
			g, err := Open(filepath.Join(b.TempDir(), "tokens"))
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = g.Close() }()
			var caller atomic.Int64
			b.SetParallelism(callers)
			b.RunParallel(func(pb *testing.PB) {
				name, token := strconv.FormatInt(caller.Add(1), 10), uint64(0)
				for pb.Next() {
					token++
					if err := g.Check(name, token); err != nil {
						b.Fatal(err)
					}
				}
			})
		})
	}
}
