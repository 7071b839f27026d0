package bench

import (
	"math"
	"time"
)

const (
	// growth is how much larger each bucket's bound is than the one before.
	growth = 1.01
	// bucketsMax buckets reach from a microsecond to above an hour.
	bucketsMax = 2300
)

// Latencies are counted, not kept: a long run costs no more memory. The zero
// value is ready. Not safe for use by several goroutines.
type Latencies struct {
	counts [bucketsMax]uint64
	n      uint64
	max    time.Duration
}

// Add counts one.
func (l *Latencies) Add(d time.Duration) {
	l.counts[bucketOf(d)]++
	l.n++
	l.max = max(l.max, d)
}

// Merge counts all of the other's too.
func (l *Latencies) Merge(other *Latencies) {
	for i, n := range other.counts {
		l.counts[i] += n
	}
	l.n += other.n
	l.max = max(l.max, other.max)
}

func bucketOf(d time.Duration) int {
	if d <= time.Microsecond {
		return 0
	}
	return min(int(math.Ceil(math.Log(float64(d)/float64(time.Microsecond))/math.Log(growth))), bucketsMax-1)
}

// At is the latency that the part q of all did not exceed; 0 if there is none.
func (l *Latencies) At(q float64) time.Duration {
	rank := max(uint64(math.Ceil(q*float64(l.n))), 1)
	for i, n := range l.counts {
		if n >= rank {
			bound := time.Duration(float64(time.Microsecond) * math.Pow(growth, float64(i)))
			return min(bound, l.max)
		}
		rank -= n
	}
	return l.max
}

// Quantiles are what is told of latencies. In JSON they are nanoseconds.
type Quantiles struct {
	Count uint64        `json:"count"`
	P50   time.Duration `json:"p50_nanos"`
	P90   time.Duration `json:"p90_nanos"`
	P99   time.Duration `json:"p99_nanos"`
	Max   time.Duration `json:"max_nanos"`
}

// Quantiles sums up.
func (l *Latencies) Quantiles() Quantiles {
	return Quantiles{Count: l.n, P50: l.At(0.5), P90: l.At(0.9), P99: l.At(0.99), Max: l.max}
}
