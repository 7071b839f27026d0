package bootstrap

import (
	"time"

	"github.com/raftlock/raftlock/internal/mutant"
	"github.com/raftlock/raftlock/link/linkpb"
)

// Answer serves the peer port, at any time of the agent's life. What it says is
// durable. It returns nil for a question it does not know, and after a save
// failed: the caller must then answer with an error, never with an empty
// answer.
func (b *Bootstrap) Answer(f *linkpb.Founding) *linkpb.FoundingAnswer {
	v := b.sight()
	b.writing.lock()
	defer b.writing.unlock()
	if b.err != nil {
		return nil
	}
	var a *linkpb.FoundingAnswer
	switch q := f.GetFounding().(type) {
	case *linkpb.Founding_Promise:
		a = b.promiseLocked(q.Promise.GetList(), v)
	case *linkpb.Founding_Abandon:
		a = b.abandonedLocked(q.Abandon.GetClusterId())
	case *linkpb.Founding_Start:
		a = b.startLocked(q.Start.GetClusterId())
	case *linkpb.Founding_Inquire:
		a = b.inquiredLocked(q.Inquire)
	}
	if b.err != nil {
		return nil
	}
	return a
}

// promiseLocked binds this agent to a list, if it is free and eligible.
func (b *Bootstrap) promiseLocked(m *linkpb.FoundingList, v sight) *linkpb.FoundingAnswer {
	l := readList(m, b.cfg.Expect)
	if l == nil || b.cfg.Forwarder || !b.expects(l) {
		return b.noLocked()
	}
	if b.rec.belongs() {
		return b.noLocked()
	}
	if len(v.clusters) > 0 {
		// Bound or not: whoever sees a cluster must not help to make another. A
		// founder that hears this abandons, and so frees this agent.
		a := b.noLocked()
		a.MemberOf = v.clusters[0]
		return a
	}
	if b.rec.promisedTo(l.ClusterID) {
		b.founderHeard()
		return &linkpb.FoundingAnswer{Ok: true}
	}
	if b.rec.Promise != nil && !mutant.On("boot-two-promises") {
		if own := b.rec.standing(); own != nil && l.Founder < own.Founder {
			b.rivalHeard(l.Founder)
		}
		return b.noLocked()
	}
	if mutant.On("boot-promise-durable") {
		b.publish(record{Version: b.rec.Version, ServerID: b.rec.ServerID, Promise: l}, nil)
		return &linkpb.FoundingAnswer{Ok: true}
	}
	if _, err := b.updateLocked(func(r *record) bool { r.Promise = l; return true }); err != nil {
		return nil
	}
	b.founderHeard()
	b.log.Info("promised", "list", l.ClusterID, "founder", l.Founder)
	return &linkpb.FoundingAnswer{Ok: true}
}

// founderHeard notes that the founder lives.
func (b *Bootstrap) founderHeard() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.founderSeen = time.Now()
}

// rivalHeard notes that a lower-named founder stands.
func (b *Bootstrap) rivalHeard(name string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.rival = name
	b.nudge()
}

// expects reports whether a list is one that this agent may be on: it names
// this very server, and it is the operator's list if there is one.
func (b *Bootstrap) expects(l *list) bool {
	self := l.byName(b.cfg.Name)
	if self == nil || self.ServerID != b.cfg.ServerID || l.Founder == b.cfg.Name {
		return false
	}
	for _, p := range l.Members {
		if !b.allowed(p.Name) {
			return false
		}
	}
	return true
}

// noLocked is a refusal that says by what this agent is bound.
func (b *Bootstrap) noLocked() *linkpb.FoundingAnswer {
	a := &linkpb.FoundingAnswer{MemberOf: b.rec.Cluster}
	if b.rec.Promise != nil {
		a.PromisedTo, a.Founder = b.rec.Promise.ClusterID, b.rec.Promise.Founder
	}
	return a
}

// abandonedLocked gives a promise back, if it is to this very list. One that
// comes late, for a list abandoned long ago, frees nothing else. An abandoned
// list never stands again, so yes is also right where nothing was promised.
func (b *Bootstrap) abandonedLocked(id string) *linkpb.FoundingAnswer {
	if b.rec.Cluster == id || b.rec.Own != nil && b.rec.Own.ClusterID == id {
		return b.noLocked()
	}
	if err := b.freeLocked(id); err != nil {
		return nil
	}
	return &linkpb.FoundingAnswer{Ok: true}
}

// freeLocked ends the promise to a list that its founder abandoned.
func (b *Bootstrap) freeLocked(id string) error {
	freed, err := b.updateLocked(func(r *record) bool {
		if r.Cluster != "" || r.Own != nil || !r.promisedTo(id) {
			return false
		}
		r.Promise = nil
		return true
	})
	if freed {
		b.log.Info("promise given back", "list", id)
	}
	return err
}

// startLocked joins the cluster that this agent is bound to, and no other.
func (b *Bootstrap) startLocked(id string) *linkpb.FoundingAnswer {
	if id != "" && b.rec.Cluster == id {
		return &linkpb.FoundingAnswer{Ok: true}
	}
	if !b.rec.mayStart(id) {
		return b.noLocked()
	}
	joined, err := b.updateLocked(func(r *record) bool { return join(r, id) })
	if err != nil {
		return nil
	}
	if !joined {
		return b.noLocked()
	}
	return &linkpb.FoundingAnswer{Ok: true}
}

// inquiredLocked says what became of a list, where this agent can know.
func (b *Bootstrap) inquiredLocked(q *linkpb.Inquire) *linkpb.FoundingAnswer {
	a := b.noLocked()
	id := q.GetClusterId()
	switch {
	case id == "":
	case b.rec.public() == id:
		a.Ok, a.Standing = true, linkpb.FoundingAnswer_STANDING_COMPLETE
	case q.GetFounderId() != b.cfg.ServerID:
	case b.rec.Own != nil && b.rec.Own.ClusterID == id:
		// Complete but not in Raft yet is told as standing: should this disk be
		// lost now, nobody belongs to a cluster that never was.
		a.Ok, a.Standing = true, linkpb.FoundingAnswer_STANDING_STANDS
	default:
		// A founder saves a list before it asks for promises, and keeps exactly
		// the one that stands.
		a.Standing = linkpb.FoundingAnswer_STANDING_ABANDONED
	}
	return a
}
