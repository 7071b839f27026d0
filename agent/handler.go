package agent

import (
	"context"
	"errors"

	"github.com/raftlock/raftlock/consensus"
	"github.com/raftlock/raftlock/link"
	"github.com/raftlock/raftlock/link/linkpb"
)

// ErrQuestion: a question of a kind this agent does not know, or cannot answer
// because its disk failed.
var ErrQuestion = errors.New("question cannot be answered")

var _ link.Handler = (*Agent)(nil)

// Admit judges a hello: only a leader whose Establish was applied takes links.
func (a *Agent) Admit(h *linkpb.Hello) *linkpb.Welcome {
	version, common := link.Version(h)
	w := &linkpb.Welcome{Version: version, ServerId: a.ServerID()}
	a.mu.Lock()
	d, node, decision := a.leading, a.node, a.decision
	a.mu.Unlock()
	switch {
	case decision == nil || h.ClusterId != decision.ClusterID:
		w.Refusal = linkpb.Welcome_REFUSAL_WRONG_CLUSTER
	case !common:
		w.Refusal = linkpb.Welcome_REFUSAL_VERSION
	case d == nil:
		w.Refusal = linkpb.Welcome_REFUSAL_NOT_LEADER
		if node != nil {
			_, w.LeaderAddress = node.LeaderAddr()
		}
	case d.linkedSince(h):
		w.Refusal = linkpb.Welcome_REFUSAL_OLD_LINK
	default:
		w.Term = d.l.Term()
	}
	return w
}

// Link serves an admitted link until it is over.
func (a *Agent) Link(h *linkpb.Hello, w *linkpb.Welcome, conn link.DownConn) {
	d := a.current()
	if d == nil || d.l.Term() != w.Term {
		conn.Close()
		return
	}
	d.serve(h, conn)
}

// linkedSince reports that a newer link of the same incarnation was seen.
func (d *leading) linkedSince(h *linkpb.Hello) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	k := d.links[h.Incarnation]
	return k != nil && k.hello.Link >= h.Link
}

// Answer answers the questions of others about this agent.
func (a *Agent) Answer(ctx context.Context, q *linkpb.Question) (*linkpb.Answer, error) {
	out := &linkpb.Answer{ClusterId: a.ClusterID(), ServerId: a.ServerID(), Agent: a.cfg.Name}
	switch q := q.Question.(type) {
	case *linkpb.Question_Term:
		out.Answer = &linkpb.Answer_Term{Term: a.term()}
	case *linkpb.Question_Founding:
		f := a.boot.Answer(q.Founding)
		if f == nil {
			return nil, ErrQuestion
		}
		out.Answer = &linkpb.Answer_Founding{Founding: f}
	case *linkpb.Question_Members:
		out.Answer = &linkpb.Answer_Members{Members: a.members()}
	case *linkpb.Question_Read:
		out.Answer = &linkpb.Answer_Read{Read: a.readForOthers(ctx, q.Read)}
	default:
		return nil, ErrQuestion
	}
	return out, nil
}

func (a *Agent) term() *linkpb.TermAnswer {
	a.mu.Lock()
	node, leading := a.node, a.leading != nil
	a.mu.Unlock()
	if node == nil {
		return &linkpb.TermAnswer{}
	}
	id, address := node.LeaderAddr()
	return &linkpb.TermAnswer{
		Term: node.Term(), LeaderId: string(id), LeaderAddress: address, Leading: leading, Member: true,
		Voters: uint32(votersOf(node)),
	}
}

// members is the Raft configuration as this agent's replica knows it; empty
// where it has none.
func (a *Agent) members() *linkpb.MembersAnswer {
	out := &linkpb.MembersAnswer{}
	node := a.Node()
	if node == nil {
		return out
	}
	list, err := node.Servers()
	if err != nil {
		return out // it is stopping
	}
	for _, s := range list {
		out.Servers = append(out.Servers, &linkpb.RaftServer{ServerId: string(s.ID), Address: s.Address, Voter: s.Voter})
	}
	return out
}

// votersOf counts the voters that a replica knows of.
func votersOf(node *consensus.Node) (n int) {
	list, err := node.Servers()
	if err != nil {
		return 0 // it is stopping
	}
	for _, s := range list {
		if s.Voter {
			n++
		}
	}
	return n
}
