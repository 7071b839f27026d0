package demo

import (
	"context"
	"fmt"
	"time"

	raftlock "github.com/raftlock/raftlock/sdk/go"
)

const (
	askEvery    = 200 * time.Millisecond
	askPatience = 3 * time.Second
	// doingMax bounds what is told of a start.
	doingMax = 20
)

// seen is what one question found.
type seen struct {
	agent  string
	err    error
	status raftlock.Status
}

// ask asks one agent again and again until ctx ends.
func ask(ctx context.Context, a Agent, found chan<- seen) {
	client, err := raftlock.Dial(ctx, raftlock.WithSocket(a.Socket))
	if err != nil {
		select {
		case found <- seen{agent: a.Name, err: err}:
		case <-ctx.Done():
		}
		return
	}
	defer client.Close()
	tick := time.NewTicker(askEvery)
	defer tick.Stop()
	for {
		asking, cancel := context.WithTimeout(ctx, askPatience)
		status, err := client.Status(asking)
		cancel()
		select {
		case found <- seen{agent: a.Name, err: err, status: status}:
		case <-ctx.Done():
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// picture is the cluster as the agents tell it, and turns news into lines.
type picture struct {
	want    int // agents
	serving map[string]bool
	role    map[string]string
	quorum  map[string]bool
	leader  string
	term    uint64
	ready   bool
	doing   map[string]bool // what was told of agents that look for a cluster
	cut     bool            // nobody who answers has a quorum
}

func newPicture(want int) *picture {
	return &picture{want: want, serving: map[string]bool{}, role: map[string]string{}, quorum: map[string]bool{}, doing: map[string]bool{}}
}

// take returns what there is to say about news.
func (p *picture) take(s seen) (lines []string) {
	say := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	if s.err != nil {
		if p.serving[s.agent] {
			say("%s answers no more", s.agent)
		}
		delete(p.serving, s.agent)
		delete(p.quorum, s.agent)
		return append(lines, p.judge()...)
	}
	if !p.serving[s.agent] {
		p.serving[s.agent] = true
		say("%s serves (%d of %d)", s.agent, len(p.serving), p.want)
	}
	p.quorum[s.agent] = s.status.HasQuorum
	if d := s.status.Doing; d != "" && !p.doing[d] && len(p.doing) < doingMax {
		p.doing[d] = true
		say("%s: %s", s.agent, d)
	}
	for _, n := range s.status.Nodes {
		if n.Name == s.agent && n.Role != "" && n.Role != "unknown" && n.Role != p.role[n.Name] {
			if p.ready {
				say("%s is a %s now", n.Name, n.Role)
			}
			p.role[n.Name] = n.Role
		}
	}
	if l := s.status.LeaderName; l != "" && s.status.Term >= p.term && (l != p.leader || s.status.Term > p.term) {
		if s.status.HasQuorum {
			p.leader, p.term = l, s.status.Term
			say("%s leads (term %d)", l, p.term)
		}
	}
	return append(lines, p.judge()...)
}

// judge says when the whole becomes ready, loses its quorum, or has it again.
func (p *picture) judge() (lines []string) {
	quorums := 0
	for _, has := range p.quorum {
		if has {
			quorums++
		}
	}
	if !p.ready {
		p.ready = len(p.serving) == p.want && quorums == p.want
		return nil
	}
	switch cut := quorums == 0; {
	case cut && !p.cut:
		lines = append(lines, "nobody has a quorum: locks are held to their deadlines, and no longer")
	case !cut && p.cut:
		lines = append(lines, "there is a quorum again")
	}
	p.cut = quorums == 0
	return lines
}
