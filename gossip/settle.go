package gossip

import (
	"context"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"
)

// settlePauses lie between the exchanges of one that has just found others.
var settlePauses = []time.Duration{time.Second, time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second}

// settler exchanges all it knows with a random other, a few times after this
// agent found anybody. News is only gossiped as often as the pool's size asks
// for when it is news: while many start at once the pool is small and changes,
// and some news reaches not all. Serf mends that by exchanging everything each
// half minute; a first start of a cluster is not to wait for it.
type settler struct {
	pool *Pool
	dial func(address string) error
	rand *rand.Rand
}

func newSettler(p *Pool, dial func(string) error) *settler {
	return &settler{pool: p, dial: dial, rand: rand.New(rand.NewPCG(p.cfg.Incarnation, 1))}
}

func (s *settler) run(ctx context.Context) {
	for ctx.Err() == nil {
		s.await(ctx, func(v *view) bool { return v.others > 0 })
		for _, pause := range settlePauses {
			if !sleep(ctx, spread(s.rand, pause)) {
				return
			}
			s.exchange()
		}
		s.await(ctx, func(v *view) bool { return v.others == 0 })
	}
}

func (s *settler) exchange() {
	v := s.pool.view.Load()
	own := s.pool.at()
	others := slices.SortedFunc(maps.Keys(v.reachable), netip.AddrPort.Compare)
	others = slices.DeleteFunc(others, func(a netip.AddrPort) bool { return a == own })
	if len(others) == 0 {
		return
	}
	with := others[s.rand.IntN(len(others))].String()
	if err := s.dial(with); err != nil {
		s.pool.log.Debug("exchange failed", slog.String(keyAddress, with), slog.Any(keyError, err))
	}
}

// await returns when ok holds of the view, or ctx ended.
func (s *settler) await(ctx context.Context, ok func(*view) bool) {
	for {
		v := s.pool.view.Load()
		if ok(v) {
			return
		}
		select {
		case <-v.changed:
		case <-ctx.Done():
			return
		}
	}
}

// sleep reports whether it was let sleep.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// spread adds or takes up to a quarter.
func spread(rand *rand.Rand, d time.Duration) time.Duration {
	return time.Duration(float64(d) * (0.75 + rand.Float64()/2))
}
