package telemetry

import (
	"context"

	"go.opentelemetry.io/otel/metric"
)

// State is what an agent is, at the moment of a scrape.
type State struct {
	// Active are the holds of its applications, Waiters their queued acquires,
	// Sessions those attached here.
	Active, Waiters, Sessions int
	// Role is Voter, Standby, Forwarder or Fresh.
	Role string
	// Raft is nil where this agent is no member of it.
	Raft *Raft
}

// Raft is what a member of Raft is.
type Raft struct {
	Term, CommitIndex, Elections uint64
	// State is 0 follower, 1 candidate, 2 leader.
	State int
}

// observed are the gauges that are read when somebody scrapes.
type observed struct {
	meter                             metric.Meter
	active, waiters, sessions, role   metric.Int64ObservableGauge
	term, raft, committed, electioned metric.Int64ObservableGauge
	roles                             map[string][]metric.ObserveOption
}

func (b *builder) observed() observed {
	o := observed{meter: b.meter, roles: make(map[string][]metric.ObserveOption)}
	for name, to := range map[string]*metric.Int64ObservableGauge{
		activeCount: &o.active, waitersNow: &o.waiters, sessionsNow: &o.sessions, roleNow: &o.role,
		raftTerm: &o.term, raftState: &o.raft, raftCommit: &o.committed, raftElections: &o.electioned,
	} {
		g, err := b.meter.Int64ObservableGauge(name, metric.WithDescription(row(name).Help))
		b.note(err)
		*to = g
	}
	for value, set := range sets(row(roleNow)) {
		o.roles[value] = []metric.ObserveOption{metric.WithAttributeSet(set)}
	}
	return o
}

// Observe asks look for the state at every scrape and every export, until stop
// is called. look is called from any goroutine and must be quick.
func (i *Instruments) Observe(look func() State) (stop func(), err error) {
	if i == nil {
		return func() {}, nil
	}
	o := i.state
	r, err := o.meter.RegisterCallback(func(_ context.Context, to metric.Observer) error {
		o.tell(to, look())
		return nil
	}, o.active, o.waiters, o.sessions, o.role, o.term, o.raft, o.committed, o.electioned)
	if err != nil {
		return nil, err
	}
	return func() { _ = r.Unregister() }, nil // it only fails for a second time
}

func (o observed) tell(to metric.Observer, s State) {
	to.ObserveInt64(o.active, int64(s.Active))
	to.ObserveInt64(o.waiters, int64(s.Waiters))
	to.ObserveInt64(o.sessions, int64(s.Sessions))
	for role, option := range o.roles {
		var is int64
		if role == s.Role {
			is = 1
		}
		to.ObserveInt64(o.role, is, option...)
	}
	if s.Raft == nil {
		return
	}
	to.ObserveInt64(o.term, int64(s.Raft.Term))
	to.ObserveInt64(o.raft, int64(s.Raft.State))
	to.ObserveInt64(o.committed, int64(s.Raft.CommitIndex))
	to.ObserveInt64(o.electioned, int64(s.Raft.Elections))
}
