package agent

import (
	"context"
	"errors"
	"testing"

	"github.com/raftlock/raftlock/agent/bootstrap"
	"github.com/raftlock/raftlock/link"
	"github.com/raftlock/raftlock/link/linkpb"
)

// at is a network where the same agent answers at every address.
type at struct {
	link.Network
	cluster, server string
}

func (n at) Ask(context.Context, string, *linkpb.Question) (*linkpb.Answer, error) {
	return &linkpb.Answer{ClusterId: n.cluster, ServerId: n.server, Agent: "other",
		Answer: &linkpb.Answer_Term{Term: &linkpb.TermAnswer{Term: 7, Member: true}}}, nil
}

// pool is a gossip that has heard of one server.
type pool struct {
	Gossip
	server, address string
}

func (p pool) Address(server string) (string, bool) { return p.address, server == p.server }

// moved is a network where each address has another server, and nobody answers
// at the others.
type moved struct {
	link.Network
	servers map[string]string
}

func (n moved) Ask(ctx context.Context, address string, q *linkpb.Question) (*linkpb.Answer, error) {
	server, ok := n.servers[address]
	if !ok {
		return nil, errors.New("refused")
	}
	return at{cluster: "c", server: server}.Ask(ctx, address, q)
}

// Gossip's word on an address is a hint: it is asked, and so is the address that
// Raft has.
func TestTermOfAServerThatMoved(t *testing.T) {
	for _, tt := range []struct {
		name    string
		servers map[string]string
		counts  bool
	}{
		{"it is where gossip says", map[string]string{"new": "s"}, true},
		{"and another one where it was", map[string]string{"new": "s", "old": "other"}, true},
		{"it is where it was", map[string]string{"old": "s"}, true},
		{"and another one where gossip says", map[string]string{"new": "other", "old": "s"}, true},
		{"others at both", map[string]string{"new": "other", "old": "other"}, false},
		{"nobody at either", nil, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := &Agent{
				cfg:      Config{Network: moved{servers: tt.servers}, Gossip: pool{server: "s", address: "new"}},
				decision: &bootstrap.Decision{ClusterID: "c"},
			}
			if term, err := a.AskTerm(t.Context(), "s", "old"); (err == nil) != tt.counts {
				t.Errorf("term %d, %v", term, err)
			}
		})
	}
}

// Addresses are reused: whoever answers is counted only as itself.
func TestTermOfAnotherServerCountsNot(t *testing.T) {
	for _, tt := range []struct {
		name, cluster, server string
		counts                bool
	}{
		{"the server that was asked", "c", "s", true},
		{"another server", "c", "other", false},
		{"another cluster", "other", "s", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := &Agent{cfg: Config{Network: at{cluster: tt.cluster, server: tt.server}, Gossip: pool{}}, decision: &bootstrap.Decision{ClusterID: "c"}}
			if term, err := a.AskTerm(t.Context(), "s", "address"); (err == nil) != tt.counts {
				t.Errorf("term %d, %v", term, err)
			}
		})
	}
}
