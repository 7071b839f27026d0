package sim

import (
	"time"

	"github.com/raftlock/raftlock/fsm"
	raftlock "github.com/raftlock/raftlock/sdk/go"
)

// Nothing that was acknowledged may be lost while nothing is wrong. What is
// wrong, is known here: faults tell when they begin and end. After that the
// cluster has calmGrace to find itself again, and from then on every session of
// a process that lives must be renewed.
const calmGrace = 3 * time.Second

// calm is guarded by Checks.mu.
type calm struct {
	judged bool          // a schedule tells of its faults
	active int           // faults that last
	since  time.Duration // the end of the last disturbance
}

// owner is the process that a session belongs to.
type owner struct {
	app     *App
	session *raftlock.Session
}

// judgeCalm begins to hold the cluster to what must be so in calm. Who calls it
// tells of every fault by disturb.
func (k *Checks) judgeCalm() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.calm.judged, k.calm.since = true, k.c.W.Now()
}

// disturb tells of a fault: lasting is 1 at the beginning of one that lasts, -1
// at its end, else 0.
func (k *Checks) disturb(lasting int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.calm.active += lasting
	k.calm.since = k.c.W.Now()
}

// calmFor is how long nothing has been wrong, calmGrace taken off.
func (k *Checks) calmFor() time.Duration { return max(0, k.quietFor()-calmGrace) }

// quietFor is how long nothing has been wrong.
func (k *Checks) quietFor() time.Duration {
	for _, m := range k.c.Members() {
		if !m.Host.Up() {
			return 0
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.calm.judged || k.calm.active > 0 {
		return 0
	}
	return k.c.W.Now() - k.calm.since
}

// opened makes known which process a session belongs to.
func (k *Checks) opened(id fsm.ID, a *App, s *raftlock.Session) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.owners[id] = owner{a, s}
}

// expired fails if the session of a process that lives, and did nothing to
// deserve it, ends by its lease in calm.
func (k *Checks) expired(id fsm.ID) {
	k.mu.Lock()
	o, known := k.owners[id]
	k.mu.Unlock()
	if known && o.app.Session() == o.session && o.session.Err() == nil && k.spared(o.app) {
		k.c.W.Fail("the session %x of %s expired though nothing was wrong", id[:4], o.app.Name)
	}
}

// lost fails if a handle is lost in calm that nobody revoked. It is called when
// a handle is over.
func (k *Checks) lost(h *Handle) {
	h.mu.Lock()
	unlocked := h.unlocked
	h.mu.Unlock()
	k.mu.Lock()
	revoked := k.revoked[h.Token]
	k.mu.Unlock()
	if !unlocked && !revoked && h.App.Session().Err() == nil && k.spared(h.App) {
		k.c.W.Fail("%s lost %s with token %d though nothing was wrong: %v", h.App.Name, h.Name, h.Token, h.App.Session().Err())
	}
}

// spared reports that nothing has been wrong with a process and the cluster for
// as long as its leases are.
func (k *Checks) spared(a *App) bool {
	a.mu.Lock()
	ttl, stirred := a.ttl, a.stirred
	a.mu.Unlock()
	long := ttl + ttl/20
	return a.Alive() && k.c.W.Now()-stirred > 2*long && k.calmFor() > long
}

// links is how soon after an Establish agents were linked. Guarded by
// Checks.mu.
type links struct {
	at   time.Duration
	of   map[string]bool
	took []time.Duration
}

// linked notes a link of a host's agent in a term.
func (k *Checks) linked(h *Host, term uint64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.counts["links"]++
	if term == k.term && !k.links.of[h.Name] {
		k.links.of[h.Name] = true
		k.links.took = append(k.links.took, k.c.W.Now()-k.links.at)
	}
}

// Relinks is how long after each Establish each agent had its first link,
// whatever kept it.
func (k *Checks) Relinks() []time.Duration {
	k.mu.Lock()
	defer k.mu.Unlock()
	return append([]time.Duration(nil), k.links.took...)
}

// continued fails if a process that was stopped for so long, with nothing else
// wrong, is still kept alive: nobody vouches for one that does not beat.
func (k *Checks) continued(a *App, stopped time.Duration) {
	a.mu.Lock()
	ttl, s := a.ttl, a.session
	a.mu.Unlock()
	l := k.c.Leader()
	if s == nil || l == nil || !a.Alive() || stopped < ttl*135/100+calmGrace/3 || k.quietFor() < stopped {
		return
	}
	k.mu.Lock()
	var ids []fsm.ID
	for id, o := range k.owners {
		if o.session == s {
			ids = append(ids, id)
		}
	}
	k.mu.Unlock()
	l.Inspect(func(st *fsm.State) {
		for _, id := range ids {
			if _, lives := st.Session(id); lives {
				k.c.W.Fail("%s was stopped for %v, and its session of TTL %v still lives", a.Name, stopped, ttl)
			}
		}
	})
	k.count("stopped for long")
}
