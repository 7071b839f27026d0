package agent

import (
	"context"
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
			a := &Agent{cfg: Config{Network: at{cluster: tt.cluster, server: tt.server}}, decision: &bootstrap.Decision{ClusterID: "c"}}
			if term, err := a.AskTerm(t.Context(), "s", "address"); (err == nil) != tt.counts {
				t.Errorf("term %d, %v", term, err)
			}
		})
	}
}
