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
func (k *Checks) calmFor() time.Duration {
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
	return max(0, k.c.W.Now()-k.calm.since-calmGrace)
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

// lost fails if a handle is lost in calm that nobody revoked.
func (k *Checks) lost(h *Handle) {
	k.mu.Lock()
	revoked := k.revoked[h.Token]
	k.mu.Unlock()
	if !revoked && !h.Lock.Valid() && k.spared(h.App) {
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
