package sim

import (
	"slices"
	"sync"

	"github.com/raftlock/raftlock/agent/bootstrap"
)

// Pool is the gossip of a world: everybody who is up is seen by everybody at
// once, unless hidden. Gossip of the agents' own is tested elsewhere; what may
// go wrong by it is only that views differ, which Hide makes them do.
type Pool struct {
	w *World

	mu      sync.Mutex // guards the rest
	members map[string]bootstrap.Member
	hidden  map[[2]string]bool // viewer, member
	changed chan struct{}
}

func newPool(w *World) *Pool {
	return &Pool{
		w: w, members: make(map[string]bootstrap.Member), hidden: make(map[[2]string]bool),
		changed: make(chan struct{}),
	}
}

// Hide makes viewer not see member, or see it again.
func (p *Pool) Hide(viewer, member *Host, hide bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hidden[[2]string{viewer.Name, member.Name}] = hide
	p.stirLocked()
}

func (p *Pool) stirLocked() {
	close(p.changed)
	p.changed = make(chan struct{})
}

// seat is one agent's place in the pool; it implements agent.Gossip.
type seat struct {
	p *Pool
	h *Host
}

func (p *Pool) of(h *Host, incarnation uint64, forwarder bool) *seat {
	p.mu.Lock()
	defer p.mu.Unlock()
	m := p.members[h.Name]
	m.Name, m.Address, m.Incarnation, m.Forwarder, m.ClusterID = h.Name, h.Addr(), incarnation, forwarder, ""
	p.members[h.Name] = m
	p.stirLocked()
	return &seat{p, h}
}

func (s *seat) Publish(serverID, clusterID string) {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	m := s.p.members[s.h.Name]
	m.ServerID, m.ClusterID = serverID, clusterID
	s.p.members[s.h.Name] = m
	s.p.stirLocked()
}

func (s *seat) Members() []bootstrap.Member {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	var out []bootstrap.Member
	for name, m := range s.p.members {
		h := s.p.w.Host(name)
		if name == s.h.Name || h.Up() && !s.p.hidden[[2]string{s.h.Name, name}] {
			out = append(out, m)
		}
	}
	slices.SortFunc(out, func(a, b bootstrap.Member) int {
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
	return out
}

// Address is where a server that one sees is, or was when it was seen last.
func (s *seat) Address(serverID string) (string, bool) {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	for name, m := range s.p.members {
		if m.ServerID == serverID && serverID != "" && !s.p.hidden[[2]string{s.h.Name, name}] {
			return m.Address, true
		}
	}
	return "", false
}

func (s *seat) Changed() <-chan struct{} {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	return s.p.changed
}
