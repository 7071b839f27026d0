package lease

import (
	"math"
	"time"

	"github.com/raftlock/raftlock/internal/mutant"
)

// Deadline is the leader's deadline D for a session that it last heard for at
// base: base + 1.01 TTL, rounded up, at most the end of time.
//
// With every clock's rate within 1% of true, D comes at least one true TTL
// after base, and HolderDeadline at most 0.98/0.99 of one after the sending,
// which is not later than base. That order is the whole promise.
func Deadline(base, ttl time.Duration) time.Duration {
	return later(base, span(ttl))
}

// HolderDeadline is the holder's deadline V, on its own host's clock, for what
// it first sent at sent: sent + 0.98 TTL, rounded down.
func HolderDeadline(sent, ttl time.Duration) time.Duration {
	return later(sent, ttl-ttl/50-min(ttl%50, 1))
}

// span is what lies between base and D.
func span(ttl time.Duration) time.Duration {
	if mutant.On("lease-margin") {
		return ttl - ttl/100*3
	}
	return later(ttl, ttl/100+min(ttl%100, 1))
}

// later adds a span that is not negative, and stays at the end of time.
func later(at, span time.Duration) time.Duration {
	if at > math.MaxInt64-span {
		return math.MaxInt64
	}
	return at + span
}
