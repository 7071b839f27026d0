package main

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	raftlock "github.com/raftlock/raftlock/sdk/go"
)

const (
	sidecarPackage = "github.com/raftlock/raftlock/cmd/sidecar"
	// workersPerSession is how many workers one application has.
	workersPerSession = 16
	// sessionBound is how long opening or closing the sessions may take.
	sessionBound = 30 * time.Second
)

// agents is the cluster of sidecars: voters, and a forwarder as the last.
type agents struct {
	list []*agent
}

type agent struct {
	*child
	socket string
	client *raftlock.Client
}

func startAgents(ctx context.Context, c *children, net loopback, sidecar string) (*agents, error) {
	if sidecar == "" {
		built, err := buildSidecar(ctx, c.dir)
		if err != nil {
			return nil, err
		}
		sidecar = built
	}
	a := &agents{}
	for i := range votersCount + 1 {
		started, err := startAgent(ctx, c, net, sidecar, i)
		if err != nil {
			return nil, err
		}
		a.list = append(a.list, started)
	}
	ctx, cancel := context.WithTimeout(ctx, startBound)
	defer cancel()
	for _, x := range a.list {
		if err := until(ctx, "wait until "+x.name+" sees five voters", a.children(), func() (bool, error) { return x.ready(ctx) }); err != nil {
			return nil, err
		}
	}
	return a, nil
}

func buildSidecar(ctx context.Context, dir string) (string, error) {
	to := filepath.Join(dir, "raftlock-sidecar")
	said, err := exec.CommandContext(ctx, "go", "build", "-o", to, sidecarPackage).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build the agent (or give -sidecar): %w: %s", err, said)
	}
	return to, nil
}

func startAgent(ctx context.Context, c *children, net loopback, sidecar string, i int) (*agent, error) {
	name, role := fmt.Sprintf("voter%d", i), "auto"
	if i == votersCount {
		name, role = "forwarder", "forwarder"
	}
	socket := filepath.Join(c.dir, name+".sock")
	p, err := c.start(name, startOptions{path: sidecar, args: []string{
		"--name", name, "--role", role, "--expect", fmt.Sprint(votersCount), "--initial", initial(),
		"--data-dir", filepath.Join(c.dir, name),
		"--socket", socket, "--admin-socket", filepath.Join(c.dir, name+"-admin.sock"),
		"--bind", net.host(1 + i), "--join", net.host(1), "--join", net.host(2),
		"--log-level", "warn",
	}})
	if err != nil {
		return nil, err
	}
	client, err := raftlock.Dial(ctx, raftlock.WithSocket(socket))
	if err != nil {
		return nil, err
	}
	return &agent{child: p, socket: socket, client: client}, nil
}

// initial names the voters, so that none of a cluster's first five can be left
// out and no founder has to wait and see.
func initial() string {
	var names []string
	for i := range votersCount {
		names = append(names, fmt.Sprintf("voter%d", i))
	}
	return strings.Join(names, ",")
}

func (a *agent) ready(ctx context.Context) (bool, error) {
	s, err := a.status(ctx)
	if err != nil {
		return false, err
	}
	voters := 0
	for _, n := range s.Nodes {
		if n.Role == "voter" {
			voters++
		}
	}
	return s.HasQuorum && s.LeaderName != "" && voters == votersCount, nil
}

func (a *agent) status(ctx context.Context) (raftlock.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	s, err := a.client.Status(ctx)
	if err != nil {
		return s, fmt.Errorf("status of %s: %w", a.name, err)
	}
	return s, nil
}

// close ends the clients; children.stop ends the processes.
func (a *agents) close() {
	for _, x := range a.list {
		_ = x.client.Close()
	}
}

func (a *agents) children() (out []*child) {
	for _, x := range a.list {
		out = append(out, x.child)
	}
	return out
}

// leadership is who leads, in which term; the forwarder is asked, which has to
// find out.
func (a *agents) leadership(ctx context.Context) (string, uint64, error) {
	s, err := a.list[votersCount].status(ctx)
	if err == nil && s.LeaderName == "" {
		err = errMoved
	}
	return s.LeaderName, s.Term, err
}

// at are the agents whose sockets a place means.
func (a *agents) at(p place, leader string) []*agent {
	switch p {
	case everywhere:
		return a.list
	case atForwarder:
		return a.list[votersCount:]
	}
	for _, x := range a.list[:votersCount] {
		if (x.name == leader) == (p == atLeader) {
			return []*agent{x}
		}
	}
	return nil
}

// measure runs a workload through the sockets of a place. errMoved: again.
func (a *agents) measure(ctx context.Context, w workload, p place, workers int, duration time.Duration) (sample, error) {
	leader, term, err := a.leadership(ctx)
	if err != nil {
		return sample{}, err
	}
	l := load{workers: workers, duration: duration, cluster: pids(a.children())}
	apps, err := openApplications(ctx, a.at(p, leader), w, workers)
	if err != nil {
		return sample{}, err
	}
	l.step = apps.step(w)
	s, err := l.run(ctx)
	err = errors.Join(err, apps.close(), dead(a.children()))
	if err != nil {
		return s, err
	}
	if now, newer, err := a.leadership(ctx); err != nil || now != leader || newer != term {
		return s, errors.Join(errMoved, err)
	}
	return s, nil
}
