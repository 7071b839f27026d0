package agent

import (
	"context"
	"log/slog"
	"slices"
	"testing"
	"time"

	api "github.com/raftlock/raftlock/api/raftlock/v1"
	"github.com/raftlock/raftlock/link/linkpb"
	"github.com/raftlock/raftlock/uds/limit"
)

func TestNodesJoinGossipAndRaft(t *testing.T) {
	seen := []Seen{
		{Name: "a", ServerID: "1", ClusterID: "c", Alive: true},
		{Name: "b", ServerID: "2", ClusterID: "c"},
		{Name: "d", ServerID: "4", ClusterID: "c", Alive: true},
		{Name: "e", ServerID: "5", Alive: true},
		{Name: "f", ServerID: "6", ClusterID: "c", Alive: true, Forwarder: true},
	}
	members := []*linkpb.RaftServer{{ServerId: "1", Voter: true}, {ServerId: "2"}, {ServerId: "3", Voter: true}}
	rolesOf := func(nodes []*api.Node) (out []string) {
		for _, n := range nodes {
			s := n.Name + " " + n.Role.String()
			if n.Leader {
				s += " leads"
			}
			out = append(out, s)
		}
		return out
	}
	for _, c := range []struct {
		name    string
		members []*linkpb.RaftServer
		want    []string
	}{
		{"a leader told", members, []string{
			"3 ROLE_VOTER", "a ROLE_VOTER leads", "b ROLE_STANDBY", "d ROLE_FORWARDER", "e ROLE_FRESH", "f ROLE_FORWARDER",
		}},
		{"nobody to ask", nil, []string{
			"a ROLE_UNSPECIFIED leads", "b ROLE_UNSPECIFIED", "d ROLE_UNSPECIFIED", "e ROLE_FRESH", "f ROLE_FORWARDER",
		}},
	} {
		if got := rolesOf(nodes(seen, c.members, "c", "1")); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
	twins := []Seen{
		{Name: "a", ServerID: "2", ClusterID: "c", Alive: true},
		{Name: "a", ServerID: "1", ClusterID: "c", Alive: true},
	}
	if got := rolesOf(nodes(twins, members[:2], "c", "1")); !slices.Equal(got, []string{"a ROLE_VOTER leads", "a ROLE_STANDBY"}) {
		t.Errorf("two of one name: %q", got)
	}
	if got := []uint32{quorum(nil), quorum(members), quorum(append(members, &linkpb.RaftServer{Voter: true}))}; !slices.Equal(got, []uint32{0, 2, 2}) {
		t.Errorf("quorums %v", got)
	}
}

// A probe has the uid of those it probes for, often: were it refused for them, a
// healthy agent would be restarted.
func TestStatusInACrowd(t *testing.T) {
	limits := limit.DefaultConfig()
	limits.Rate, limits.Burst, limits.Concurrent = 1, 1, 1
	l := limit.New(limits)
	s := NewAPI(lonely(t, &slowStore{files: map[string][]byte{}}, func() time.Duration { return 0 }), APIConfig{
		Identity: func(context.Context) (string, bool) { return "uid:7", true },
		Limiter:  l, Seen: func() []Seen { return nil }, Log: slog.New(slog.DiscardHandler),
	})
	leave, _, ok := l.Enter("uid:7")
	if !ok {
		t.Fatal("the first request is refused")
	}
	defer leave()
	if _, err := s.Get(t.Context(), &api.GetRequest{Lock: "x"}); err == nil {
		t.Error("reads are not limited")
	}
	for range 100 {
		if _, err := s.Status(t.Context(), &api.StatusRequest{}); err != nil {
			t.Fatalf("an agent that is alive: %v", err)
		}
	}
}
