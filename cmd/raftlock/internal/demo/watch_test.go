package demo

import (
	"errors"
	"slices"
	"testing"

	raftlock "github.com/raftlock/raftlock/sdk/go"
)

func says(agent, leader string, term uint64, quorum bool, role string) seen {
	return seen{agent: agent, status: raftlock.Status{Agent: agent, LeaderName: leader, Term: term, HasQuorum: quorum,
		Nodes: []raftlock.Node{{Name: agent, Role: role}}}}
}

func TestPicture(t *testing.T) {
	p := newPicture(2)
	for _, step := range []struct {
		name string
		news seen
		want []string
	}{
		{"the first is there", says("n1", "", 0, false, ""), []string{"n1 serves (1 of 2)"}},
		{"nobody there yet", seen{agent: "n2", err: errors.New("no socket")}, nil},
		{"a leader it cannot prove", says("n1", "n1", 1, false, "voter"), nil},
		{"it leads", says("n1", "n1", 2, true, "voter"), []string{"n1 leads (term 2)"}},
		{"all are there", says("n2", "n1", 2, true, "forwarder"), []string{"n2 serves (2 of 2)"}},
		{"nothing new", says("n2", "n1", 2, true, "forwarder"), nil},
		{"an old leader", says("n2", "n2", 1, true, "forwarder"), nil},
		{"another role", says("n2", "n1", 2, true, "standby"), []string{"n2 is a standby now"}},
		{"one is lost", seen{agent: "n1", err: errors.New("gone")}, []string{"n1 answers no more"}},
		{"no quorum", says("n2", "n1", 2, false, "standby"), []string{"nobody has a quorum: locks are held to their deadlines, and no longer"}},
		{"still none", says("n2", "", 2, false, "standby"), nil},
		{"a new leader", says("n2", "n2", 4, true, "voter"), []string{"n2 is a voter now", "n2 leads (term 4)", "there is a quorum again"}},
		{"the same again", says("n2", "n2", 6, true, "voter"), []string{"n2 leads (term 6)"}},
		{"back", says("n1", "n2", 6, true, "voter"), []string{"n1 serves (2 of 2)"}},
	} {
		if got := p.take(step.news); !slices.Equal(got, step.want) {
			t.Errorf("%s: %q, want %q", step.name, got, step.want)
		}
	}
	if !p.ready {
		t.Error("it was never ready")
	}
}

func TestDemosDoNotMeet(t *testing.T) {
	first, reserved, err := choose(plan{Voters: 1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := first.probe(); err == nil {
		t.Error("a network was reserved twice")
	}
	_ = reserved.Close()
	again, err := first.probe()
	if err != nil {
		t.Fatalf("a network that was given back: %v", err)
	}
	_ = again.Close()
}
