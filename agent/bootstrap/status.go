package bootstrap

import (
	"slices"
	"time"
)

// Status is for people.
type Status struct {
	// ClusterID it belongs to; empty: none yet.
	ClusterID string
	// Founder of the list that this agent stands with or is promised to, and the
	// list's cluster id to be, which Forget takes. Kept once it belongs.
	Founder, List string
	// FounderHeard is when the founder last answered this agent; zero: never
	// since the start.
	FounderHeard time.Time
	// Doing says what it does or waits for, Of whom or why, one by one.
	Doing string
	Of    []string
	// Clusters in view, its own included: more than one needs a person.
	Clusters []string
	// Err: the record could not be saved; the agent must be restarted.
	Err error
}

// note is what the goroutine of Run last said of itself.
type note struct {
	doing string
	// detail, which has numbers, goes on where doing ends.
	detail   string
	of       []string
	clusters []string
}

// Status tells what this agent waits for. Safe from any goroutine.
func (b *Bootstrap) Status() Status {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := Status{
		ClusterID:    b.rec.public(),
		FounderHeard: b.founderSeen,
		Doing:        b.note.doing + b.note.detail,
		Of:           slices.Clone(b.note.of),
		Clusters:     slices.Clone(b.note.clusters),
		Err:          b.err,
	}
	if b.rec.Promise != nil {
		s.Founder, s.List = b.rec.Promise.Founder, b.rec.Promise.ClusterID
	}
	if b.rec.Cluster != "" {
		s.Doing, s.Of = "belongs to a cluster", nil
	}
	return s
}

// remark notes what this agent does, for Status.
func (b *Bootstrap) remark(doing string, of ...string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.note.doing, b.note.detail, b.note.of = doing, "", of
}

// detail adds to what was remarked.
func (b *Bootstrap) detail(detail string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.note.detail = detail
}
