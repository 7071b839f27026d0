package gossip

import (
	"cmp"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/serf/serf"
)

// Member is what is known of an agent. All of it is a hint.
type Member struct {
	// Name of the agent.
	Name string
	// Address of its peer port, host:port.
	Address string
	// GossipAddress is where Serf speaks to it, ip:port.
	GossipAddress string
	// ServerID of its data directory; empty until it published one.
	ServerID string
	// ClusterID it says it belongs to; empty: none.
	ClusterID string
	// Forwarder: told never to vote.
	Forwarder bool
	// Incarnation is drawn at each start.
	Incarnation uint64
	// Alive is false once Serf held it for failed, for up to a day. Who left is
	// told no more.
	Alive bool
}

// A sighting is one node in Serf: one start of an agent.
type sighting struct {
	card   card
	gossip netip.AddrPort
	alive  bool
}

func (s sighting) member() Member {
	return Member{
		Name:          s.card.name,
		Address:       s.card.address,
		GossipAddress: text(s.gossip),
		ServerID:      s.card.serverID,
		ClusterID:     s.card.clusterID,
		Forwarder:     s.card.forwarder,
		Incarnation:   s.card.incarnation,
		Alive:         s.alive,
	}
}

// before reports whether s is to be told rather than other.
func (s sighting) before(other sighting) bool {
	if s.alive != other.alive {
		return s.alive
	}
	return cmp.Or(cmp.Compare(s.card.started, other.card.started),
		cmp.Compare(s.card.incarnation, other.card.incarnation)) > 0
}

// A view is what is told; it never changes once it is published.
type view struct {
	members []Member
	// all are the members and, after each, the other living agents of its name.
	all []Member
	// servers has the peer address of each server id.
	servers map[string]string
	// reachable are the gossip addresses of all living nodes, this one included.
	reachable map[netip.AddrPort]bool
	// others are living nodes but this one.
	others int
	// twins are names that several living starts have.
	twins map[string][]sighting
	// changed is closed when a view with other members takes this one's place.
	changed chan struct{}
}

// newView is pure. Seen has everybody but self, whose card is better known here
// than to Serf.
func newView(self sighting, seen []sighting, reachable map[netip.AddrPort]bool) *view {
	byName := map[string]sighting{self.card.name: self}
	byServer := make(map[string]sighting)
	living := make(map[string][]sighting)
	note := func(s sighting) {
		if s.alive {
			living[s.card.name] = append(living[s.card.name], s)
		}
		if known, ok := byServer[s.card.serverID]; s.card.serverID != "" && (!ok || s.before(known)) {
			byServer[s.card.serverID] = s
		}
		// Under this agent's own name nobody else is told: it knows that it lives.
		if known, ok := byName[s.card.name]; s.card.name != self.card.name && (!ok || s.before(known)) {
			byName[s.card.name] = s
		}
	}
	note(self)
	v := &view{
		servers:   make(map[string]string, len(byServer)),
		reachable: reachable,
		changed:   make(chan struct{}),
	}
	for _, s := range seen {
		note(s)
		if s.alive {
			v.others++
		}
	}
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		told := byName[name]
		v.members = append(v.members, told.member())
		for _, s := range agents(told, living[name]) {
			v.all = append(v.all, s.member())
		}
	}
	for id, s := range byServer {
		v.servers[id] = s.card.address
	}
	// The own card wins for the own server id, whoever else claims it.
	if self.card.serverID != "" {
		v.servers[self.card.serverID] = self.card.address
	}
	maps.DeleteFunc(living, func(_ string, starts []sighting) bool { return len(starts) < 2 })
	v.twins = living
	return v
}

// agents returns the sighting that is told and those of the starts that are of
// other agents than it and than each other, newest first.
func agents(told sighting, starts []sighting) []sighting {
	starts = slices.Clone(starts)
	slices.SortFunc(starts, func(a, b sighting) int {
		switch {
		case a.before(b):
			return -1
		case b.before(a):
			return 1
		}
		return 0
	})
	found := []sighting{told}
	for _, s := range starts {
		if !slices.ContainsFunc(found, func(other sighting) bool { return s.mayBe(other) }) {
			found = append(found, s)
		}
	}
	return found
}

// mayBe reports whether two living starts of one name may be one agent that was
// started anew. Its data directory may be a new one: who has the address of
// another took its place.
func (s sighting) mayBe(other sighting) bool {
	a, b := s.card, other.card
	return a.serverID == "" || b.serverID == "" || a.serverID == b.serverID || a.address == b.address
}

// replaced reports whether another living start of the card's agent is told.
func (v *view) replaced(c card) bool {
	i, ok := slices.BinarySearchFunc(v.members, c.name, func(m Member, name string) int { return strings.Compare(m.Name, name) })
	return ok && v.members[i].Alive && v.members[i].Incarnation != c.incarnation
}

func isAlive(m *serf.Member) bool {
	return m.Status == serf.StatusAlive || m.Status == serf.StatusLeaving
}

func addressOf(m *serf.Member) netip.AddrPort {
	ip, _ := netip.AddrFromSlice(m.Addr)
	return netip.AddrPortFrom(ip.Unmap(), m.Port)
}

// text is empty for no address.
func text(a netip.AddrPort) string {
	if !a.IsValid() {
		return ""
	}
	return net.JoinHostPort(a.Addr().String(), strconv.Itoa(int(a.Port())))
}
