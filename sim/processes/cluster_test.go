package processes

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	raftlock "github.com/raftlock/raftlock/sdk/go"
)

const (
	// formTime is promised for a first start; twice as long may pass before a
	// test gives up on a cluster that it only needs.
	formTime = 30 * time.Second
	// askTime bounds one question that a test asks an agent.
	askTime = 3 * time.Second
	// logTail is how much of each agent's log a failed test prints.
	logTail = 6 << 10
)

// A cluster of agents, each a process.
type cluster struct {
	t      testing.TB // the present test; the shared cluster sees several
	dir    string
	agents []*agent
	net    *network // nil: all on loopback
	apps   []*application
	id     string
}

// agent is one of them, running or not.
type agent struct {
	c      *cluster
	index  int
	name   string
	socket string
	dir    string
	args   []string
	on     *thread
	log    *os.File
	proc   *process // nil: not started, or somebody else's
	client *raftlock.Client
	// foreign: another program started it, and ends it.
	foreign bool
}

// plan says what cluster to make.
type plan struct {
	agents, expect int
	// apart: each agent in a network namespace of its own.
	apart bool
}

// clusters is how many were made: each has addresses and names of its own.
var clusters atomic.Int32

// newCluster makes agents and starts none. They are gone when the test is over.
func newCluster(t testing.TB, p plan) *cluster {
	t.Helper()
	c := makeCluster(t, p)
	t.Cleanup(func() {
		c.tell()
		c.end()
	})
	return c
}

func makeCluster(t testing.TB, p plan) *cluster {
	t.Helper()
	number := clusters.Add(1)
	c := &cluster{t: t, dir: runPath(fmt.Sprintf("c%d", number))}
	must(t, os.MkdirAll(c.dir, 0o700))
	threads := slices.Repeat([]*thread{home}, p.agents)
	address := func(i int) string { return fmt.Sprintf("127.%d.0.%d", number, i+1) }
	if p.apart {
		c.net, threads = newNetwork(t, fmt.Sprintf("rl%d", number), p.agents)
		address = c.net.address
	}
	for i := range p.agents {
		a := &agent{c: c, index: i, name: fmt.Sprintf("agent%d", i+1), on: threads[i]}
		a.dir = filepath.Join(c.dir, a.name)
		must(t, os.MkdirAll(a.dir, 0o700))
		a.socket = filepath.Join(a.dir, "app.sock")
		a.args = []string{
			"--name", a.name, "--data-dir", filepath.Join(a.dir, "data"),
			"--socket", a.socket, "--admin-socket", filepath.Join(a.dir, "admin.sock"),
			"--bind", address(i), "--expect", fmt.Sprint(p.expect), "--log-level", "info",
		}
		for j := range p.agents {
			a.args = append(a.args, "--join", address(j))
		}
		if p.apart {
			a.args = append(a.args, "--insecure-plaintext")
		}
		log, err := os.Create(filepath.Join(a.dir, "log"))
		must(t, err)
		a.log = log
		a.client, err = raftlock.Dial(context.Background(), raftlock.WithSocket(a.socket))
		must(t, err)
		c.agents = append(c.agents, a)
	}
	return c
}

// formed is a cluster that serves.
func formed(t testing.TB, p plan) *cluster {
	t.Helper()
	c := newCluster(t, p)
	c.form(p)
	return c
}

func (c *cluster) form(p plan) {
	c.t.Helper()
	for _, a := range c.agents {
		a.start()
	}
	c.whole(2*formTime, p.expect)
}

// shared is a cluster of five voters and two forwarders for the tests that
// leave it as whole as they found it.
var shared *cluster

// usual returns the shared cluster; a test that fails leaves none behind.
func usual(t *testing.T) *cluster {
	t.Helper()
	if shared == nil {
		p := plan{agents: 7, expect: 5}
		c := makeCluster(t, p)
		t.Cleanup(func() {
			if shared != c { // it was never whole
				c.tell()
				c.end()
			}
		})
		c.form(p)
		shared = c
	}
	c := shared
	c.t = t
	t.Cleanup(func() {
		c.tell()
		c.dismiss()
		if t.Failed() {
			c.end()
			shared = nil
		}
	})
	return c
}

func (c *cluster) dismiss() {
	for _, a := range c.apps {
		a.kill()
	}
	c.apps = nil
}

// end kills everything.
func (c *cluster) end() {
	c.dismiss()
	for _, a := range c.agents {
		if a.proc != nil {
			a.proc.kill()
		}
		_ = a.client.Close()
		if a.log != nil {
			_ = a.log.Close()
		}
	}
}

// tell prints the ends of the agents' logs if the test failed; it fails if an
// agent has ended by itself.
func (c *cluster) tell() {
	for _, a := range c.agents {
		if a.proc != nil && !a.proc.running() && !a.proc.meant {
			c.t.Errorf("%s has ended by itself: %v", a.name, a.proc.cmd.ProcessState)
		}
	}
	if !c.t.Failed() {
		return
	}
	for _, a := range c.agents {
		if a.log == nil {
			continue
		}
		text, err := os.ReadFile(a.log.Name())
		if err != nil {
			continue
		}
		if len(text) > logTail {
			text = text[len(text)-logTail:]
			text = text[bytes.IndexByte(text, '\n')+1:]
		}
		c.t.Logf("end of the log of %s:\n%s", a.name, text)
	}
}

func (a *agent) start() { a.startAs(spawn{}) }

func (a *agent) startAs(s spawn) {
	a.c.t.Helper()
	s.path, s.args, s.log = program(a.c.t, agentProgram), a.args, a.log
	a.proc = a.on.start(a.c.t, s)
}

// up is whether it runs, stopped or not.
func (a *agent) up() bool { return a.foreign || a.proc != nil && a.proc.running() }

// leave stops it in order and waits for its end.
func (a *agent) leave() {
	a.c.t.Helper()
	a.proc.meant = true
	a.proc.signal(a.c.t, unix.SIGTERM)
	select {
	case <-a.proc.done:
	case <-time.After(formTime):
		a.c.t.Fatalf("%s has not ended %s after SIGTERM", a.name, formTime)
	}
}

func (a *agent) status() (raftlock.Status, error) {
	ctx, cancel := context.WithTimeout(context.Background(), askTime)
	defer cancel()
	return a.client.Status(ctx)
}

func (a *agent) get(lock string) (raftlock.LockInfo, error) {
	ctx, cancel := context.WithTimeout(context.Background(), askTime)
	defer cancel()
	return a.client.Get(ctx, lock)
}

// list is every lock that begins so, and the log's index as it was read.
func (a *agent) list(prefix string) (map[string]raftlock.LockInfo, uint64, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*askTime)
	defer cancel()
	out, after := map[string]raftlock.LockInfo{}, ""
	for {
		page, err := a.client.List(ctx, raftlock.Filter{Prefix: prefix, After: after})
		if err != nil {
			return nil, 0, err
		}
		for _, l := range page.Locks {
			out[l.Name] = l
		}
		if after = page.Next; after == "" {
			return out, page.Index, nil
		}
	}
}

// whole waits until every agent that runs serves one and the same cluster, with
// so many voters.
func (c *cluster) whole(within time.Duration, voters int) {
	c.t.Helper()
	over := time.Now().Add(within)
	for _, a := range c.agents {
		if !a.up() {
			continue
		}
		until(c.t, max(time.Until(over), time.Second), a.name+" serves the whole cluster", func() error {
			if !a.up() {
				c.t.Fatalf("%s has ended by itself", a.name)
			}
			st, err := a.status()
			if err != nil {
				return err
			}
			return c.serves(st, voters)
		})
	}
}

// serves reports why an agent's status is not that of the whole cluster. The
// first cluster that is seen is the one.
func (c *cluster) serves(st raftlock.Status, voters int) error {
	if st.ClusterID == "" {
		return fmt.Errorf("no cluster yet: %s", st.Doing)
	}
	if c.id == "" {
		c.id = st.ClusterID
	}
	if st.ClusterID != c.id {
		c.t.Fatalf("two clusters: %s is of %s, others of %s", st.Agent, st.ClusterID, c.id)
	}
	if !st.HasQuorum || st.LeaderName == "" {
		return fmt.Errorf("no leader: %s", st.Reach)
	}
	n := 0
	for _, node := range st.Nodes {
		if node.Role == "voter" {
			n++
		}
	}
	if n != voters {
		return fmt.Errorf("%d voters: %+v", n, st.Nodes)
	}
	return nil
}

// roles are the agents by what they are; the leader is among the voters.
type roles struct {
	leader             *agent
	voters, forwarders []*agent // without the leader; in the order of names
}

// roles asks an agent that knows.
func (c *cluster) roles() roles {
	c.t.Helper()
	var out roles
	until(c.t, formTime, "somebody knows the leader", func() error {
		for _, a := range c.agents {
			if !a.up() {
				continue
			}
			st, err := a.status()
			if err != nil || !st.HasQuorum || st.LeaderName == "" {
				continue
			}
			out = roles{}
			for _, node := range st.Nodes {
				switch b := c.agent(node.Name); {
				case b == nil:
				case node.Name == st.LeaderName:
					out.leader = b
				case node.Role == "voter":
					out.voters = append(out.voters, b)
				default:
					out.forwarders = append(out.forwarders, b)
				}
			}
			if out.leader != nil {
				return nil
			}
		}
		return errors.New("nobody does")
	})
	return out
}

func (c *cluster) agent(name string) *agent {
	for _, a := range c.agents {
		if a.name == name {
			return a
		}
	}
	return nil
}
