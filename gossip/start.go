package gossip

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/hashicorp/serf/serf"
)

const (
	// eventsMax events may wait for drain, besides Serf's own thousand.
	eventsMax = 256
	// replacedKept is how long Serf keeps a failed start of an agent that lives on
	// in another. An agent that restarts every second is else a thousand nodes.
	replacedKept = 2 * time.Minute
	// leftKept is how long Serf keeps who left: others that missed it learn it from
	// us. Names are never used again, so nothing else needs it.
	leftKept = time.Hour
	// resolveTimeout bounds one look-up of a name.
	resolveTimeout = 5 * time.Second
	// addressesMax of one name are used.
	addressesMax = 16
)

// start brings Serf up.
func (p *Pool) start(ctx context.Context, events chan<- serf.Event) (*serf.Serf, error) {
	bind, err := p.resolveOne(ctx, p.cfg.Bind)
	if err != nil {
		return nil, fmt.Errorf("gossip address to listen on: %w: change --bind", err)
	}
	advertise := bind
	if p.cfg.Advertise != "" {
		if advertise, err = p.resolveOne(ctx, p.cfg.Advertise); err != nil {
			return nil, fmt.Errorf("gossip address for others: %w: change --advertise", err)
		}
	}
	logger := newSerfLogger(p.cfg.Log)
	sockets, err := listen(ctx, bind.String(), p.cfg.Port, logger)
	if err != nil {
		return nil, err
	}
	at := netip.AddrPortFrom(advertise, uint16(sockets.GetAutoBindPort()))

	p.mu.Lock()
	p.self.gossip, p.self.card.started = at, time.Now().UnixMilli()
	told := p.renewLocked()
	p.mu.Unlock()
	told()

	c := p.serfConfig(at)
	c.EventCh, c.Logger = events, logger
	c.MemberlistConfig.Logger = logger
	c.MemberlistConfig.BindAddr, c.MemberlistConfig.Transport = bind.String(), sockets
	p.tune(c)
	s, err := serf.Create(c)
	if err != nil {
		sockets.abandon()
		return nil, fmt.Errorf("start gossip at %s: %w", at, err)
	}
	return s, nil
}

// serfConfig has everything but what is a connection to us.
func (p *Pool) serfConfig(at netip.AddrPort) *serf.Config {
	self := p.card()
	c := serf.DefaultConfig()
	c.Init()
	c.NodeName, c.Tags = self.node(), self.tags()
	c.LogOutput = nil
	// Its vote makes the loser shut down. Names are unique by incarnation, and the
	// agents' names are looked after here.
	c.EnableNameConflictResolution = false
	c.DisableCoordinates = true
	c.ReconnectTimeoutOverride = reaper{p}
	// Leave waits for two broadcasts, then for them to spread: in all no longer
	// than the time-out.
	c.BroadcastTimeout = p.cfg.LeaveTimeout * 3 / 8
	c.LeavePropagateDelay = p.cfg.LeaveTimeout / 4

	m := memberlist.DefaultLANConfig()
	m.LogOutput = nil
	m.AdvertiseAddr, m.AdvertisePort = at.Addr().String(), int(at.Port())
	m.BindPort = int(at.Port())
	m.SecretKey = p.cfg.SecretKey
	c.MemberlistConfig = m
	return c
}

// reaper tells Serf how long to keep whom. Serf calls it with its locks held.
type reaper struct{ pool *Pool }

// ReconnectTimeout implements serf.ReconnectTimeoutOverrider.
func (r reaper) ReconnectTimeout(m *serf.Member, timeout time.Duration) time.Duration {
	if m.Status == serf.StatusLeft {
		return min(timeout, leftKept)
	}
	if c, err := readCard(m); err == nil && r.pool.view.Load().replaced(c) {
		return min(timeout, replacedKept)
	}
	return timeout
}

// lookup finds a name's addresses; it heeds ctx.
type lookup func(ctx context.Context, host string) ([]netip.Addr, error)

func lookupHost(ctx context.Context, host string) ([]netip.Addr, error) {
	return net.DefaultResolver.LookupNetIP(ctx, "ip", host)
}

// resolve returns at most addressesMax addresses, and at least one or an error.
func (p *Pool) resolve(ctx context.Context, host string) ([]netip.Addr, error) {
	if ip, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{ip.Unmap()}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	found, err := p.lookup(ctx, host)
	if err != nil {
		return nil, fmt.Errorf("look up %s: %w", host, err)
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("look up %s: it has no address", host)
	}
	found = found[:min(len(found), addressesMax)]
	for i, ip := range found {
		found[i] = ip.Unmap().WithZone("")
	}
	return found, nil
}

// resolveOne prefers IPv4, so that "localhost" is one thing everywhere.
func (p *Pool) resolveOne(ctx context.Context, host string) (netip.Addr, error) {
	found, err := p.resolve(ctx, host)
	if err != nil {
		return netip.Addr{}, err
	}
	for _, ip := range found {
		if ip.Is4() {
			return ip, nil
		}
	}
	return found[0], nil
}
