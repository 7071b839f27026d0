package bootstrap

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// sight is what one look at the view gives.
type sight struct {
	members []Member
	// clusters are the ids that others in view say they belong to, sorted.
	clusters []string
	// candidates may be listed, as far as the view tells; this agent among them
	// if it may; sorted by name.
	candidates []peer
}

// look reads the view and notes since when the candidates are the same.
func (b *Bootstrap) look() sight {
	v := b.sight()
	if key := fmt.Sprint(v.candidates, incarnations(v)); key != b.stillKey || b.stillSince.IsZero() {
		b.stillKey, b.stillSince = key, time.Now()
	}
	return v
}

// sight is safe from any goroutine.
func (b *Bootstrap) sight() sight {
	v := sight{members: b.cfg.View.Members()}
	clusters := make(map[string]bool)
	servers := make(map[string]int)
	for _, m := range v.members {
		if !b.isSelf(m) {
			servers[m.ServerID]++
			if m.ClusterID != "" {
				clusters[m.ClusterID] = true
			}
		}
	}
	v.clusters = slices.Sorted(maps.Keys(clusters))
	// A list has each name once, so of several agents of one name the first is
	// taken: two would each answer for the other. Nobody lists one of its own name.
	taken := map[string]bool{b.cfg.Name: true}
	if b.allowed(b.cfg.Name) && !b.cfg.Forwarder {
		v.candidates = append(v.candidates, b.self())
	}
	for _, m := range v.members {
		// Two names with one server id are a copied data directory: no promise of
		// either is worth anything.
		alone := servers[m.ServerID] == 1 && m.ServerID != b.cfg.ServerID
		if taken[m.Name] || m.ClusterID != "" || m.Forwarder || !b.allowed(m.Name) || !alone || !sane(m) {
			continue
		}
		taken[m.Name] = true
		v.candidates = append(v.candidates, peer{Name: m.Name, ServerID: m.ServerID, Address: m.Address})
	}
	slices.SortFunc(v.candidates, func(a, b peer) int { return cmp.Compare(a.Name, b.Name) })
	return v
}

// isSelf reports whether a member is this agent: what is told of it may be of
// before it published its id, or of a life before its disk was emptied. Another
// agent that uses the name is at another address, and not to be overlooked if
// it is of a cluster.
func (b *Bootstrap) isSelf(m Member) bool {
	return m.Name == b.cfg.Name && (m.ServerID == "" || m.ServerID == b.cfg.ServerID || m.Address == b.cfg.Address)
}

func sane(m Member) bool {
	return fits(m.Name, nameBytesMax) && fits(m.ServerID, nameBytesMax) && fits(m.Address, addressBytesMax)
}

func (b *Bootstrap) self() peer {
	return peer{Name: b.cfg.Name, ServerID: b.cfg.ServerID, Address: b.cfg.Address}
}

// allowed reports whether the operator lets an agent of this name be listed.
func (b *Bootstrap) allowed(name string) bool {
	return len(b.cfg.Initial) == 0 || slices.Contains(b.cfg.Initial, name)
}

// incarnations of the candidates: a restart is a change of view.
func incarnations(v sight) string {
	var s strings.Builder
	for _, p := range v.candidates {
		for _, m := range v.members {
			if m.Name == p.Name && m.ServerID == p.ServerID {
				fmt.Fprintf(&s, "%d ", m.Incarnation)
			}
		}
	}
	return s.String()
}

// copied returns server ids that two agents in view have: a copied directory.
func (v sight) copied() []string {
	seen, twice := make(map[string]bool), make(map[string]bool)
	for _, m := range v.members {
		if seen[m.ServerID] {
			twice[m.ServerID] = true
		}
		seen[m.ServerID] = true
	}
	return slices.Sorted(maps.Keys(twice))
}

// of returns those in view that say they belong to a cluster.
func (v sight) of(clusterID string) []peer {
	var found []peer
	for _, m := range v.members {
		if m.ClusterID == clusterID && sane(m) {
			found = append(found, peer{Name: m.Name, ServerID: m.ServerID, Address: m.Address})
		}
	}
	return found
}

// now returns the peer with the address it has now: agents move, lists do not.
func (v sight) now(p peer) peer {
	for _, m := range v.members {
		if m.ServerID == p.ServerID && m.Name == p.Name && sane(m) {
			p.Address = m.Address
		}
	}
	return p
}
