package gossip

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"
)

// complaintEvery is the pause between warnings that nobody can be joined.
const complaintEvery = time.Minute

// joiner keeps this agent together with its join targets, for ever: Serf itself
// forgets whom it could not reach for a day, remembers nobody over a restart,
// and dials only addresses that it once saw.
type joiner struct {
	pool *Pool
	// dial is Serf's Join of one ip:port.
	dial func(address string) error
	// rand spreads agents that lost sight of each other at one instant. It is
	// drawn from the incarnation, which is random.
	rand       *rand.Rand
	pause      time.Duration
	complained time.Time
}

// A look says which addresses the targets have now, and who of them is in view.
type look struct {
	missing, inView []netip.AddrPort
	// unresolved is the last error of a name that has no address now.
	unresolved error
}

func newJoiner(p *Pool, dial func(string) error) *joiner {
	return &joiner{pool: p, dial: dial, rand: rand.New(rand.NewPCG(p.cfg.Incarnation, 0))}
}

func (j *joiner) run(ctx context.Context) {
	if len(j.pool.targets) == 0 {
		return
	}
	for ctx.Err() == nil {
		l := j.look(ctx)
		err := j.try(ctx, l)
		j.rest(ctx, j.next(err), l)
	}
}

// look resolves every name anew.
func (j *joiner) look(ctx context.Context) look {
	var l look
	v, own := j.pool.view.Load(), j.pool.at()
	for _, t := range j.pool.targets {
		found, err := j.pool.resolve(ctx, t.host)
		if err != nil {
			l.unresolved = err
		}
		for _, ip := range found {
			at := netip.AddrPortFrom(ip, t.port)
			switch {
			case at == own || slices.Contains(l.missing, at) || slices.Contains(l.inView, at):
			case v.reachable[at]:
				l.inView = append(l.inView, at)
			default:
				l.missing = append(l.missing, at)
			}
		}
	}
	return l
}

// try joins who is missing, in random order, and returns the last error.
func (j *joiner) try(ctx context.Context, l look) error {
	err := l.unresolved
	j.rand.Shuffle(len(l.missing), func(a, b int) { l.missing[a], l.missing[b] = l.missing[b], l.missing[a] })
	for _, at := range l.missing {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if j.pool.view.Load().reachable[at] {
			continue // one that was just joined knew it
		}
		if failed := j.dial(at.String()); failed != nil {
			j.pool.log.Debug("join target does not answer", slog.String(keyAddress, at.String()), slog.Any(keyError, failed))
			err = failed
		}
	}
	if err != nil && ctx.Err() == nil && j.alone() {
		j.complain(err)
	}
	return err
}

func (j *joiner) alone() bool { return j.pool.view.Load().others == 0 }

func (j *joiner) complain(err error) {
	if now := time.Now(); now.Sub(j.complained) >= complaintEvery {
		j.complained = now
		j.pool.log.Warn("no join target answers and no other agent is in view: trying on",
			slog.Int("targets", len(j.pool.targets)), slog.Any(keyError, err))
	}
}

// next is the pause after a round. A target that answered but is not in view is
// behind another address than it tells, and is looked after like one in view.
func (j *joiner) next(err error) time.Duration {
	cfg := j.pool.cfg
	if err == nil {
		j.pause = 0
		return spread(j.rand, cfg.JoinCheck)
	}
	longest := cfg.JoinRetryMax
	if j.alone() {
		longest = cfg.JoinRetryAlone
	}
	j.pause = min(max(2*j.pause, cfg.JoinRetryMin), longest)
	return spread(j.rand, j.pause)
}

// rest waits for d, or until somebody is lost: the last other agent, or a target
// that was in view. Then it is the least pause, so that a view that changes
// without end does not make us join without end.
func (j *joiner) rest(ctx context.Context, d time.Duration, l look) {
	wait := func(d time.Duration, until func(*view) bool) bool {
		timer := time.NewTimer(d)
		defer timer.Stop()
		for {
			v := j.pool.view.Load()
			if until(v) {
				return true
			}
			select {
			case <-v.changed:
			case <-timer.C:
				return false
			case <-ctx.Done():
				return false
			}
		}
	}
	wasAlone := j.alone()
	lost := func(v *view) bool {
		return v.others == 0 && !wasAlone ||
			slices.ContainsFunc(l.inView, func(at netip.AddrPort) bool { return !v.reachable[at] })
	}
	if wait(d, lost) {
		j.pause = 0
		wait(spread(j.rand, j.pool.cfg.JoinRetryMin), func(*view) bool { return false })
	}
}
