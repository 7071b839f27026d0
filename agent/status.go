package agent

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	api "github.com/raftlock/raftlock/api/raftlock/v1"
	"github.com/raftlock/raftlock/link/linkpb"
)

// quorumTimeout is how long Status waits for the proof that a leader leads.
const quorumTimeout = time.Second

// Seen is an agent as gossip tells of it: a hint.
type Seen struct {
	Name, Address, ServerID, ClusterID string
	Forwarder, Alive                   bool
}

// Status tells what this agent knows of itself and of its cluster. It always
// answers, within some two seconds, but to an identity that has many under way
// already: probes ask it, and must hear no less of an agent in a crowd.
func (s *API) Status(ctx context.Context, _ *api.StatusRequest) (*api.StatusResponse, error) {
	leave, err := s.look(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	out := &api.StatusResponse{
		Agent: s.a.cfg.Name, Version: s.cfg.Version,
		ServerId: s.a.ServerID(), ClusterId: s.a.ClusterID(), Reach: s.a.Reach(), Behind: s.a.Behind(),
	}
	if boot := s.a.Bootstrap().Status(); out.ClusterId == "" {
		out.Doing = strings.Join(append([]string{boot.Doing}, boot.Of...), " ")
		if boot.List != "" {
			out.Doing += " (list " + boot.List + " of " + boot.Founder + ")"
		}
	} else if len(boot.Clusters) > 1 {
		out.Doing = "sees more than one cluster in its gossip pool: " + strings.Join(boot.Clusters, " ")
	}
	sessions, holds, waits := s.a.sessions.Count()
	out.Sessions, out.Holds, out.Waits = uint64(sessions), uint64(holds), uint64(waits)

	leaderID, address, term, linked := s.a.LeaderLink()
	if linked {
		out.LeaderId, out.Term = leaderID, term
		out.HasQuorum = s.proven(ctx)
	}
	members := s.members(ctx, address)
	out.QuorumSize = quorum(members)
	out.Nodes = nodes(s.cfg.Seen(), members, out.ClusterId, out.LeaderId)
	for _, n := range out.Nodes {
		if n.Leader {
			out.LeaderName = n.Name
		}
	}
	return out, nil
}

// proven reports that the leader proved just now that it leads.
func (s *API) proven(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, quorumTimeout)
	defer cancel()
	r, err := s.a.sessions.Query(ctx, &linkpb.Query{Query: &linkpb.Query_List{List: &linkpb.ListLocks{Limit: 1}}})
	return err == nil && r.Ok
}

// members is the Raft configuration: the leader's, else this agent's own.
func (s *API) members(ctx context.Context, leader string) []*linkpb.RaftServer {
	if leader != "" && leader != s.a.cfg.Address {
		ctx, cancel := context.WithTimeout(ctx, askTimeout)
		defer cancel()
		r, err := s.a.cfg.Network.Ask(ctx, leader, &linkpb.Question{
			From: s.a.cfg.Name, Question: &linkpb.Question_Members{Members: &linkpb.Members{}},
		})
		if err == nil && r.ClusterId == s.a.ClusterID() {
			return r.GetMembers().GetServers()
		}
	}
	return s.a.members().GetServers()
}

func quorum(members []*linkpb.RaftServer) uint32 {
	voters := uint32(0)
	for _, m := range members {
		if m.Voter {
			voters++
		}
	}
	if voters == 0 {
		return 0
	}
	return voters/2 + 1
}

// nodes joins what gossip sees with the Raft configuration, by server id. A
// member that gossip does not see has no name but its id.
func nodes(seen []Seen, members []*linkpb.RaftServer, cluster, leader string) []*api.Node {
	raft := make(map[string]*linkpb.RaftServer, len(members))
	for _, m := range members {
		raft[m.ServerId] = m
	}
	var out []*api.Node
	for _, a := range seen {
		n := &api.Node{
			Name: a.Name, ServerId: a.ServerID, Address: a.Address, Alive: a.Alive,
			Role: api.Node_ROLE_FORWARDER, Leader: leader != "" && a.ServerID == leader,
		}
		switch m := raft[a.ServerID]; {
		case m.GetVoter():
			n.Role = api.Node_ROLE_VOTER
		case m != nil:
			n.Role = api.Node_ROLE_STANDBY
		case a.ClusterID == "":
			n.Role = api.Node_ROLE_FRESH
		case a.ClusterID != cluster:
			n.Role = api.Node_ROLE_UNSPECIFIED // of another cluster, or this agent is of none yet
		case len(members) == 0 && !a.Forwarder:
			n.Role = api.Node_ROLE_UNSPECIFIED // nobody to ask now
		}
		delete(raft, a.ServerID)
		out = append(out, n)
	}
	for _, m := range raft {
		n := &api.Node{Name: m.ServerId, ServerId: m.ServerId, Address: m.Address, Role: api.Node_ROLE_STANDBY}
		if m.Voter {
			n.Role = api.Node_ROLE_VOTER
		}
		out = append(out, n)
	}
	slices.SortFunc(out, func(a, b *api.Node) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), strings.Compare(a.ServerId, b.ServerId))
	})
	return out
}
