package fsm

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"testing"

	"github.com/raftlock/raftlock/fsm/command"
)

// crowd is a state where n acquires wait for one lock, each session with so
// many of them.
func crowd(t testing.TB, n, each int) *State {
	s := New()
	first := opened(t, s, "holder")
	apply1(t, s, acquireCommand(s, first, 2, "the/contested/lock"))
	var cs []*command.Command
	flush := func() {
		if len(cs) > 0 {
			s.Apply(s.Index()+1, 1, marshal(t, 1, cs...))
			cs = cs[:0]
		}
	}
	var id ID
	for i := range n {
		if i%each == 0 {
			flush()
			name := fmt.Sprint("w", i/each)
			id = sessionID(name)
			if r := apply1(t, s, openCommand(name, fmt.Sprint("i", i/each/1000))); r.Code != command.Code_CODE_OK {
				t.Fatal(r)
			}
		}
		if cs = append(cs, acquireCommand(s, id, uint64(2+i%each), "the/contested/lock")); len(cs) == 256 {
			flush()
		}
	}
	flush()
	for i := range n / each {
		id := sessionID(fmt.Sprint("w", i))
		c := attachedTo(s, id, 0)
		c.AckMark = uint64(1 + each)
		c.Kind = &command.Command_Acknowledge{Acknowledge: &command.Acknowledge{}}
		apply1(t, s, c)
	}
	if l, _ := s.lock("the/contested/lock"); int(l.waiters) != n {
		t.Fatalf("%d waiters, want %d", l.waiters, n)
	}
	return s
}

// BenchmarkCrowd: what one command costs while 10^3 and 10^6 wait. ns/op is of
// the pair that leaves the crowd as it was: an entry each, decoding included.
func BenchmarkCrowd(b *testing.B) {
	const each = 1000
	for _, n := range []int{1000, 1_000_000} {
		s := crowd(b, n, each)
		r := rand.New(rand.NewPCG(1, 1))
		anybody := func() ID { return sessionID(fmt.Sprint("w", r.IntN(n/each))) }
		seq := uint64(1 << 20)
		acked := func(c *command.Command) *command.Command { c.AckMark = seq - 1; return c }
		b.Run(fmt.Sprintf("enqueue+cancel/%d", n), func(b *testing.B) {
			for b.Loop() {
				seq++
				id := anybody()
				apply1(b, s, acked(acquireCommand(s, id, seq, "the/contested/lock")))
				apply1(b, s, cancelCommand(s, id, seq))
			}
		})
		b.Run(fmt.Sprintf("enqueue-first+cancel/%d", n), func(b *testing.B) {
			for b.Loop() {
				seq++
				id := anybody()
				c := acked(acquireCommand(s, id, seq, "the/contested/lock"))
				c.GetAcquire().Priority = 1
				apply1(b, s, c)
				apply1(b, s, cancelCommand(s, id, seq))
			}
		})
		b.Run(fmt.Sprintf("position/%d", n), func(b *testing.B) {
			for b.Loop() {
				id := anybody()
				apply1(b, s, acquireCommand(s, id, uint64(2+r.IntN(each)), "the/contested/lock"))
			}
		})
		b.Run(fmt.Sprintf("open+wait+expire/%d", n), func(b *testing.B) {
			for b.Loop() {
				id := opened(b, s, "passer-by")
				apply1(b, s, acquireCommand(s, id, 2, "the/contested/lock"))
				c := attachedTo(s, id, 0)
				c.Kind = &command.Command_End{End: &command.End{Reason: command.EndReason_END_REASON_EXPIRED}}
				apply1(b, s, c)
			}
		})
		b.Run(fmt.Sprintf("free-lock/%d", n), func(b *testing.B) {
			for b.Loop() {
				seq++
				id := anybody()
				r := apply1(b, s, acked(acquireCommand(s, id, seq, "free")))
				apply1(b, s, releaseCommand(s, id, 0, seq, r.Standings[0].Token))
			}
		})
		b.Run(fmt.Sprintf("view/%d", n), func(b *testing.B) {
			for b.Loop() {
				s.View()
			}
		})
	}
}

// BenchmarkSnapshot of 10^6 waiters: once is enough (-benchtime 1x).
func BenchmarkSnapshot(b *testing.B) {
	s := crowd(b, 1_000_000, 1000)
	for b.Loop() {
		if err := s.View().Snapshot(io.Discard); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRestore of 10^6 waiters, checks included.
func BenchmarkRestore(b *testing.B) {
	data := snapshotOf(b, crowd(b, 1_000_000, 1000))
	for b.Loop() {
		if _, err := Restore(bytes.NewReader(data)); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(len(data))/1e6, "bytes/waiter")
}

// BenchmarkRound: one entry of 512 commands that take and give free locks.
func BenchmarkRound(b *testing.B) {
	s := New()
	id := opened(b, s, "a")
	seq := uint64(1)
	for b.Loop() {
		var cs []*command.Command
		token := s.Token()
		for range command.EntryCommandsMax / 2 {
			seq++
			token++
			c := acquireCommand(s, id, seq, "some/lock")
			c.AckMark = seq - 1
			cs = append(cs, c, releaseCommand(s, id, 0, seq, token))
		}
		s.Apply(s.Index()+1, 1, marshal(b, 1, cs...))
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/command.EntryCommandsMax, "ns/command")
}

func heap() int {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

// TestMemory holds the state to its price: under 1 KiB a held lock, under
// 512 bytes a waiter.
func TestMemory(t *testing.T) {
	const n = 100_000
	hold := func(each int) *State {
		s := New()
		for i := range n / each {
			id := opened(t, s, fmt.Sprint(i))
			for from := 0; from < each; from += 250 {
				var cs []*command.Command
				for j := from; j < min(each, from+250); j++ {
					cs = append(cs, acquireCommand(s, id, uint64(2+j), fmt.Sprintf("service/shard/%09d", i*each+j)))
				}
				s.Apply(s.Index()+1, 1, marshal(t, 1, cs...))
			}
			c := attachedTo(s, id, 0)
			c.AckMark = uint64(1 + each)
			c.Kind = &command.Command_Acknowledge{Acknowledge: &command.Acknowledge{}}
			apply1(t, s, c)
		}
		if s.locks.Len() != n {
			t.Fatalf("%d locks", s.locks.Len())
		}
		return s
	}
	for _, c := range []struct {
		name string
		make func() *State
		most int
	}{
		{"held lock, 1000 a session", func() *State { return hold(1000) }, 1024},
		{"held lock, 10 a session", func() *State { return hold(10) }, 1024},
		{"waiter, 1000 a session", func() *State { return crowd(t, n, 1000) }, 512},
		{"waiter with a session of its own", func() *State { return crowd(t, n, 1) }, 1024},
	} {
		before := heap()
		s := c.make()
		each := (heap() - before) / n
		t.Logf("%s: %d bytes", c.name, each)
		if each > c.most {
			t.Errorf("%s: %d bytes, want at most %d", c.name, each, c.most)
		}
		runtime.KeepAlive(s)
	}
}
