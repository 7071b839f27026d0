package daemon

import (
	"github.com/raftlock/raftlock/agent"
	"github.com/raftlock/raftlock/agent/bootstrap"
	"github.com/raftlock/raftlock/gossip"
)

func (d *Daemon) newPool(address string, incarnation uint64) (*gossip.Pool, error) {
	cfg := gossip.DefaultConfig()
	cfg.Name, cfg.Incarnation = d.opt.Name, incarnation
	cfg.Bind, cfg.Advertise, cfg.Port = d.opt.Bind, d.opt.Advertise, d.opt.GossipPort
	cfg.PeerAddress, cfg.Forwarder = address, d.opt.Role == RoleForwarder
	cfg.Join, cfg.Log = d.opt.Join, d.log
	return gossip.New(cfg)
}

// poolView is the gossip pool as an agent sees it: who is alive, and whoever
// was once seen of a cluster, dead or not: that a cluster exists is no news to
// be forgotten by a first start.
type poolView struct{ *gossip.Pool }

// Members implements bootstrap.View.
func (v poolView) Members() []bootstrap.Member {
	var out []bootstrap.Member
	for _, m := range v.Pool.All() {
		if !m.Alive && m.ClusterID == "" {
			continue
		}
		out = append(out, bootstrap.Member{
			Name: m.Name, Address: m.Address, ServerID: m.ServerID, ClusterID: m.ClusterID,
			Forwarder: m.Forwarder, Incarnation: m.Incarnation,
		})
	}
	return out
}

func (d *Daemon) seen() []agent.Seen {
	var out []agent.Seen
	for _, m := range d.pool.All() {
		out = append(out, agent.Seen{
			Name: m.Name, Address: m.Address, ServerID: m.ServerID, ClusterID: m.ClusterID,
			Forwarder: m.Forwarder, Alive: m.Alive,
		})
	}
	return out
}
