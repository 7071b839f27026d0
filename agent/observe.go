package agent

import (
	"slices"

	"github.com/hashicorp/raft"

	"github.com/raftlock/raftlock/consensus"
	"github.com/raftlock/raftlock/telemetry"
)

// Observed is what this agent is now, for a scrape: it looks at every session.
func (a *Agent) Observed() telemetry.State {
	c := a.sessions.Census()
	a.mu.Lock()
	node, decided := a.node, a.decision != nil
	a.mu.Unlock()
	return telemetry.State{
		Active: c.Holds, Waiters: c.Waits, Sessions: c.Sessions,
		Role: roleOf(node, a.cfg.Consensus.ServerID, decided), Raft: raftOf(node),
	}
}

func roleOf(node *consensus.Node, self raft.ServerID, decided bool) string {
	switch {
	case node == nil && !decided:
		return telemetry.Fresh
	case node == nil:
		return telemetry.Forwarder
	}
	servers, err := node.Servers()
	if err == nil && slices.ContainsFunc(servers, func(s consensus.Server) bool { return s.ID == self && s.Voter }) {
		return telemetry.Voter
	}
	return telemetry.Standby
}

// raftStates are Raft's states as design section 10 numbers them. One that has
// shut down is none.
var raftStates = map[raft.RaftState]int{raft.Follower: 0, raft.Candidate: 1, raft.Leader: 2}

func raftOf(node *consensus.Node) *telemetry.Raft {
	if node == nil {
		return nil
	}
	state, ok := raftStates[node.State()]
	if !ok {
		return nil
	}
	return &telemetry.Raft{Term: node.Term(), CommitIndex: node.CommitIndex(), Elections: node.Elections(), State: state}
}
