package gossip

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/serf/serf"
)

var (
	// ErrListen says that the gossip port could not be opened. Run may be called
	// on a new Pool once the reason is gone; the text names it and the flags.
	ErrListen = errors.New("gossip cannot listen")
	// ErrRan says that Run was called before; a Pool runs once.
	ErrRan = errors.New("gossip ran already")
)

// refreshInterval is how often Serf's members are read without an event: what
// warns of names used twice must look even when nothing changes.
const refreshInterval = 5 * time.Second

const (
	// twiceAfter is how long two living starts of an agent are taken for a restart.
	// Serf's suspicion at its longest, with a few hundred members.
	twiceAfter = 60 * time.Second
	// twoAfter is the same for starts at two addresses with two server ids. Only a
	// host that moved and lost its disk without a goodbye looks so by itself. With
	// refreshInterval it makes less than ten seconds.
	twoAfter = 4 * time.Second
)

// Pool is this agent's part in the gossip. All methods are safe from any
// goroutine.
type Pool struct {
	cfg     Config
	log     *slog.Logger
	targets []target
	ran     atomic.Bool
	ready   chan struct{}
	// view is what is told now. It is replaced under mu, and read without.
	view atomic.Pointer[view]
	// news and published each wake one goroutine; one wake is enough for any
	// number of changes, since it reads them all.
	news, published chan struct{}

	// mu guards what the next view is made of. No call of Serf is made under it.
	mu   sync.Mutex
	self sighting
	seen []sighting
	// reachable as Serf said it with seen.
	reachable map[netip.AddrPort]bool

	// For tests: shorter intervals, other names.
	tune       func(*serf.Config)
	refresh    time.Duration
	twiceAfter time.Duration
	lookup     lookup
}

// New validates the configuration and starts nothing. Its error lists all that
// is wrong.
func New(cfg Config) (*Pool, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	p := &Pool{
		cfg:        cfg,
		log:        cfg.Log.With(slog.String(keyComponent, "gossip")),
		ready:      make(chan struct{}),
		news:       make(chan struct{}, 1),
		published:  make(chan struct{}, 1),
		tune:       func(*serf.Config) {},
		refresh:    refreshInterval,
		twiceAfter: twiceAfter,
		lookup:     lookupHost,
		self: sighting{alive: true, card: card{
			name:        cfg.Name,
			incarnation: cfg.Incarnation,
			address:     cfg.PeerAddress,
			forwarder:   cfg.Forwarder,
		}},
	}
	for _, text := range cfg.Join {
		t, _ := parseTarget(text) // Validate parsed it
		p.targets = append(p.targets, t)
	}
	p.view.Store(newView(p.self, nil, nil))
	return p, nil
}

// Members returns what is known of every agent, this one included: one entry
// per name, sorted by it. The slice is the caller's.
func (p *Pool) Members() []Member { return slices.Clone(p.view.Load().members) }

// All returns Members and, right after the one told of its name, every other
// living agent that uses the name, newest first: another server id at another
// address. Nobody should have such a pool, but each of them may be a voter.
func (p *Pool) All() []Member { return slices.Clone(p.view.Load().all) }

// Changed returns a channel that is closed when All changed after this call.
func (p *Pool) Changed() <-chan struct{} { return p.view.Load().changed }

// Address returns the newest known peer address of a Raft server. Of several
// that claim the id a living one is told, and of those the last one started.
func (p *Pool) Address(serverID string) (string, bool) {
	address, ok := p.view.Load().servers[serverID]
	return address, ok
}

// Ready returns a channel that is closed once others can join this agent.
func (p *Pool) Ready() <-chan struct{} { return p.ready }

// GossipAddress is ip:port as others are told it; empty before Ready.
func (p *Pool) GossipAddress() string {
	return text(p.at())
}

func (p *Pool) at() netip.AddrPort {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.self.gossip
}

// Publish tells others, from now on, which Raft server this agent is and which
// cluster it says it belongs to; empty: none yet. An id that is no printable
// ASCII of at most 64 bytes is logged and not told. Publish may be called before
// and while Run runs; the last call counts.
func (p *Pool) Publish(serverID, clusterID string) {
	if !isID(serverID) || !isID(clusterID) {
		p.log.Error("ids cannot be published: they must be at most 64 printable characters",
			slog.Int("server_id_bytes", len(serverID)), slog.Int("cluster_id_bytes", len(clusterID)))
		return
	}
	p.mu.Lock()
	p.self.card.serverID, p.self.card.clusterID = serverID, clusterID
	told := p.renewLocked()
	p.mu.Unlock()
	told()
	poke(p.published)
}

// renewLocked puts a new view in place if it tells anything new, and returns
// what to call after mu is let go: a log may be slow.
func (p *Pool) renewLocked() (told func()) {
	next, old := newView(p.self, p.seen, p.reachable), p.view.Load()
	if slices.Equal(next.all, old.all) {
		next.changed = old.changed
		p.view.Store(next)
		return func() {}
	}
	p.view.Store(next)
	close(old.changed)
	return func() { logChanges(p.log, old.members, next.members) }
}

func (p *Pool) card() card {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.self.card
}

// Run takes part in the gossip until ctx ends, then says goodbye. It returns
// after its goroutines have, with an error only if it could not start; ErrListen
// if another has the port.
func (p *Pool) Run(ctx context.Context) error {
	if p.ran.Swap(true) {
		return ErrRan
	}
	events := make(chan serf.Event, eventsMax)
	s, err := p.start(ctx, events)
	if err != nil {
		return err
	}
	var drain, work sync.WaitGroup
	drain.Go(func() { p.drain(events, s.ShutdownCh()) })
	work.Go(func() { p.keep(ctx, s) })
	work.Go(func() { p.tell(ctx, s) })
	dial := func(address string) error {
		_, err := s.Join([]string{address}, true)
		return err
	}
	work.Go(func() { newJoiner(p, dial).run(ctx) })
	work.Go(func() { newSettler(p, dial).run(ctx) })
	close(p.ready)
	work.Wait()
	// Goodbye first: who vanishes without is probed and suspected for seconds.
	// Events are drained to the end, since Serf cannot even leave otherwise.
	err = errors.Join(s.Leave(), s.Shutdown())
	drain.Wait()
	if err != nil {
		p.log.Warn("gossip ended without goodbye", slog.Any(keyError, err))
	}
	return nil
}

// drain only reads. It must take no lock of Serf's, for Serf may hold it until
// the event is taken.
func (p *Pool) drain(events <-chan serf.Event, shutdown <-chan struct{}) {
	for {
		select {
		case e := <-events:
			if _, ok := e.(serf.MemberEvent); ok {
				poke(p.news)
			}
		case <-shutdown:
			// Serf may still be about to hand over a few: they find an empty buffer,
			// so that no goroutine of Serf's waits for ever.
			for len(events) > 0 {
				<-events
			}
			return
		}
	}
}

// keep copies Serf's members into the view.
func (p *Pool) keep(ctx context.Context, s *serf.Serf) {
	double := newTwice(p.twiceAfter)
	strange := newStrangers(p.log)
	tick := time.NewTicker(p.refresh)
	defer tick.Stop()
	for {
		p.see(s.Members(), strange)
		double.look(time.Now(), p.view.Load().twins, p.log)
		select {
		case <-p.news:
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// see makes a view of Serf's members.
func (p *Pool) see(members []serf.Member, strange *strangers) {
	own := p.card().node()
	var seen []sighting
	reachable := make(map[netip.AddrPort]bool)
	for i := range members {
		m := &members[i]
		if m.Status != serf.StatusFailed && !isAlive(m) {
			continue
		}
		if isAlive(m) {
			reachable[addressOf(m)] = true
		}
		if m.Name == own {
			continue
		}
		c, err := readCard(m)
		if err != nil {
			strange.met(m, err)
			continue
		}
		seen = append(seen, sighting{card: c, gossip: addressOf(m), alive: isAlive(m)})
	}
	p.mu.Lock()
	p.seen, p.reachable = seen, reachable
	told := p.renewLocked()
	p.mu.Unlock()
	told()
}

// tell hands the newest card to Serf, which waits until it was sent to some.
func (p *Pool) tell(ctx context.Context, s *serf.Serf) {
	told := s.LocalMember().Tags
	for {
		select {
		case <-p.published:
		case <-ctx.Done():
			return
		}
		tags := p.card().tags()
		if maps.Equal(told, tags) {
			continue
		}
		told = tags
		// An error says that the wait was too long; gossip goes on sending it.
		if err := s.SetTags(tags); err != nil {
			p.log.Debug("news are slow to go out", slog.Any(keyError, err))
		}
	}
}

func poke(wake chan<- struct{}) {
	select {
	case wake <- struct{}{}:
	default:
	}
}
