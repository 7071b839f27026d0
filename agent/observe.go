package agent

import (
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/raftlock/raftlock/agent/session"
	"github.com/raftlock/raftlock/consensus"
	"github.com/raftlock/raftlock/telemetry"
)

// censusAge is for how long a count of sessions and holds serves all scrapes:
// counting stops the sessions for as long as it takes.
const censusAge = 100 * time.Millisecond

// census remembers the last count.
type census struct {
	mu   sync.Mutex // guards the rest
	at   time.Time  // zero: nothing was counted yet
	last session.Census
}

// of counts by count, or answers with what it counted just now.
func (c *census) of(count func() session.Census) session.Census {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.at.IsZero() || time.Since(c.at) >= censusAge {
		c.last, c.at = count(), time.Now()
	}
	return c.last
}

// Observed is what this agent is now, for a scrape; what needs a look at every
// session is of the last 100 ms.
func (a *Agent) Observed() telemetry.State {
	c := a.census.of(a.sessions.Census)
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
	if err != nil {
		return telemetry.Standby
	}
	return memberRole(servers, self)
}

// memberRole is the role of who has Raft state, in the words that status and the
// log use: who was removed forwards, and who knows no members yet is to be one.
func memberRole(servers []consensus.Server, self raft.ServerID) string {
	i := slices.IndexFunc(servers, func(s consensus.Server) bool { return s.ID == self })
	switch {
	case i >= 0 && servers[i].Voter:
		return telemetry.Voter
	case i < 0 && len(servers) > 0:
		return telemetry.Forwarder
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
