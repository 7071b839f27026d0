package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

const (
	votersCount = 5
	// startBound is how long a cluster has to form.
	startBound = time.Minute
	// answerGrace is what a node's answer may take beside its measurement.
	answerGrace = 30 * time.Second
	bareHost    = 100 // the first one's last byte
)

// errMoved: the cluster had another leader before the measurement was over.
var errMoved = errors.New("the leader changed")

// bare is the cluster of bare Raft processes.
type bare struct {
	nodes []*bareNode
}

type bareNode struct {
	*child
	requests *json.Encoder
	answers  chan nodeAnswer // closed when the process says no more
}

func startBare(ctx context.Context, c *children, net loopback) (*bare, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	var hosts []string
	for i := range votersCount {
		hosts = append(hosts, net.host(bareHost+i))
	}
	b := &bare{}
	for i := range votersCount {
		n, err := startBareNode(c, self, nodeConfig{Self: i, Hosts: hosts})
		if err != nil {
			return nil, err
		}
		b.nodes = append(b.nodes, n)
	}
	ctx, cancel := context.WithTimeout(ctx, startBound)
	defer cancel()
	return b, until(ctx, "wait for a leader", b.children(), func() (bool, error) {
		leader, err := b.leader(ctx)
		return leader != nil, err
	})
}

func startBareNode(c *children, self string, cfg nodeConfig) (*bareNode, error) {
	name := fmt.Sprintf("bare%d", cfg.Self)
	cfg.Dir = filepath.Join(c.dir, name)
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, err
	}
	text, err := json.Marshal(cfg)
	if err != nil {
		return nil, err
	}
	p, err := c.start(name, startOptions{path: self, env: []string{nodeVariable + "=" + string(text)}, talk: true})
	if err != nil {
		return nil, err
	}
	n := &bareNode{child: p, requests: json.NewEncoder(p.stdin), answers: make(chan nodeAnswer, 1)}
	p.reading.Go(func() { n.read(p.stdout) })
	return n, nil
}

// read ends when the process has. It never blocks: no question is asked before
// the last one was answered.
func (n *bareNode) read(from io.Reader) {
	defer close(n.answers)
	d := json.NewDecoder(from)
	for {
		var a nodeAnswer
		if d.Decode(&a) != nil {
			return
		}
		n.answers <- a
	}
}

func (b *bare) children() (out []*child) {
	for _, n := range b.nodes {
		out = append(out, n.child)
	}
	return out
}

// ask asks one node and waits for its answer.
func (n *bareNode) ask(ctx context.Context, q nodeRequest) (nodeAnswer, error) {
	if err := n.requests.Encode(q); err != nil {
		return nodeAnswer{}, fmt.Errorf("ask %s: %w", n.name, err)
	}
	late := time.NewTimer(2*q.Duration + answerGrace)
	defer late.Stop()
	select {
	case a, ok := <-n.answers:
		switch {
		case !ok:
			return a, fmt.Errorf("%s says no more", n.name)
		case a.Error != "":
			return a, fmt.Errorf("%s: %s", n.name, a.Error)
		}
		return a, nil
	case <-late.C:
		return nodeAnswer{}, fmt.Errorf("%s does not answer", n.name)
	case <-ctx.Done():
		return nodeAnswer{}, ctx.Err()
	}
}

// leader is who leads with the highest term; nil: nobody.
func (b *bare) leader(ctx context.Context) (*bareNode, error) {
	var found *bareNode
	var term uint64
	for _, n := range b.nodes {
		a, err := n.ask(ctx, nodeRequest{})
		if err != nil {
			return nil, err
		}
		if a.Leading && a.Term >= term {
			found, term = n, a.Term
		}
	}
	return found, nil
}

// measure runs a workload in the leader's process. errMoved: again.
func (b *bare) measure(ctx context.Context, w workload, workers int, duration time.Duration) (sample, error) {
	leader, err := b.leader(ctx)
	if err != nil {
		return sample{}, err
	}
	if leader == nil {
		return sample{}, errMoved
	}
	a, err := leader.ask(ctx, nodeRequest{Run: w, Workers: workers, Duration: duration, Cluster: pids(b.children())})
	if err == nil && !a.Leading {
		err = errMoved
	}
	return a.Sample, err
}
