package main

import (
	"encoding/json"
	"strings"
	"testing"

	raftlockv1 "github.com/raftlock/raftlock/api/raftlock/v1"
	raftlock "github.com/raftlock/raftlock/sdk/go"
)

func TestMembers(t *testing.T) {
	a, socket := startAgent(t)
	a.SetStatus(&raftlockv1.StatusResponse{Agent: "n1", Nodes: []*raftlockv1.Node{
		{Name: "n1", Role: raftlockv1.Node_ROLE_VOTER, Leader: true, Alive: true, Address: "10.0.0.1:7947", ServerId: "s1"},
		{Name: "n2", Role: raftlockv1.Node_ROLE_FORWARDER, Address: "10.0.0.2:7947"},
		{Name: "n\n3"},
	}})
	code, out, errs := typed("members", "--socket", socket)
	lines := strings.Split(strings.TrimSpace(out), "\n")
	want := []string{"NAME ROLE LEADER ADDRESS ALIVE ID", "n1 voter leader 10.0.0.1:7947 yes s1",
		"n2 forwarder - 10.0.0.2:7947 no -", "n\uFFFD3 unknown - - no -"}
	for i, line := range lines {
		if code != 0 || len(lines) != len(want) || strings.Join(strings.Fields(line), " ") != want[i] {
			t.Errorf("%d, %q, %q, want %q", code, line, errs, want[i])
		}
	}
	var nodes []raftlock.Node
	_, out, _ = typed("members", "--json", "--socket", socket)
	if err := json.Unmarshal([]byte(out), &nodes); err != nil || len(nodes) != 3 || !nodes[0].Leader || nodes[1].Role != "forwarder" {
		t.Errorf("%v: %s", err, out)
	}
	a.SetStatus(&raftlockv1.StatusResponse{})
	if code, out, _ := typed("members", "--json", "--socket", socket); code != 0 || strings.TrimSpace(out) != "[]" {
		t.Errorf("%d, %s", code, out)
	}
	if code, _, errs := typed("members", "--socket", socket+"x", "--timeout", "50ms"); code != 69 {
		t.Errorf("%d, %s", code, errs)
	}
}
