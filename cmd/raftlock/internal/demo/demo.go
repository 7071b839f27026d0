package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// ErrAllGone: every agent has ended by itself, so there is nothing to show.
var ErrAllGone = errors.New("all agents have exited")

// Config says what to run. No field has a default but Dir.
type Config struct {
	Voters, Forwarders int
	// Dir is where everything is kept. Empty: a new directory, removed at the
	// end unless Keep.
	Dir  string
	Keep bool
	// Sidecar is the agent's executable.
	Sidecar string
	// Extra flags for every agent.
	Extra []string
	// Program is how people call the command-line tool.
	Program string
	Out     io.Writer
}

// Validate says what is wrong, all at once.
func (c *Config) Validate() error {
	var wrong []error
	if c.Voters != 1 && c.Voters != 3 && c.Voters != 5 {
		wrong = append(wrong, fmt.Errorf("--voters %d: ask for 1, 3 or 5", c.Voters))
	}
	if c.Forwarders < 0 || c.Voters+c.Forwarders > agentsMax {
		wrong = append(wrong, fmt.Errorf("--forwarders %d: ask for 0 to %d", c.Forwarders, agentsMax-c.Voters))
	}
	return errors.Join(wrong...)
}

// FindSidecar looks for the agent's executable: the named one, else the one
// beside this executable, else the one in PATH.
func FindSidecar(named string) (string, error) {
	const name = "raftlock-sidecar"
	if named != "" {
		path, err := exec.LookPath(named)
		if err != nil {
			return "", fmt.Errorf("%w; --sidecar and RAFTLOCK_SIDECAR name the agent's executable", err)
		}
		return filepath.Abs(path)
	}
	if self, err := os.Executable(); err == nil {
		beside := filepath.Join(filepath.Dir(self), name)
		if path, err := exec.LookPath(beside); err == nil {
			return path, nil
		}
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("%w, nor is it beside this program; build it (make build) and name it with --sidecar or RAFTLOCK_SIDECAR", err)
	}
	return filepath.Abs(path)
}

// cluster is a demo that runs. Only Run's goroutine touches it.
type cluster struct {
	cfg       Config
	dir       string
	plan      plan
	began     time.Time
	processes []*process
	picture   *picture
	shown     bool // the next commands
}

// Run starts the cluster, tells what it sees until ctx ends, and stops it. A
// close of hurry, at any time after, cuts the stopping short. Errors:
// ErrAllGone, and those of starting; each ends with what to do next.
func Run(ctx context.Context, cfg Config, hurry <-chan struct{}) (err error) {
	if err := cfg.Validate(); err != nil {
		return err
	}
	dir, remove, err := directory(cfg)
	if err != nil {
		return err
	}
	defer remove()
	if err := fits(dir, cfg.Voters+cfg.Forwarders); err != nil {
		return err
	}
	claimed, err := claim(dir)
	if err != nil {
		return err
	}
	defer claimed.Close()
	p, reserved, err := settle(dir, cfg.Voters, cfg.Forwarders)
	if err != nil {
		return err
	}
	defer reserved.Close()
	c := &cluster{cfg: cfg, dir: dir, plan: p, began: time.Now(), picture: newPicture(cfg.Voters + cfg.Forwarders)}
	return c.run(ctx, hurry)
}

// directory makes the place, and returns what to call at the end.
func directory(cfg Config) (string, func(), error) {
	if cfg.Dir != "" {
		dir, err := filepath.Abs(cfg.Dir)
		return dir, func() {}, err
	}
	dir, err := os.MkdirTemp("", "raftlock-demo-")
	if err != nil {
		return "", nil, fmt.Errorf("%w; name a place with --dir", err)
	}
	if cfg.Keep {
		return dir, func() {}, nil
	}
	// What cannot be removed stays in the place for temporary things.
	return dir, func() { _ = os.RemoveAll(dir) }, nil
}

func (c *cluster) say(format string, args ...any) {
	// Nobody can be told that telling failed.
	_, _ = fmt.Fprintf(c.cfg.Out, "%7.3fs  %s\n", time.Since(c.began).Seconds(), fmt.Sprintf(format, args...))
}

func (c *cluster) run(ctx context.Context, hurry <-chan struct{}) error {
	members := c.plan.members()
	exits := make(chan *process, len(members))
	found := make(chan seen, len(members))
	starter := newStarter()
	defer starter.close()
	var waits, asks sync.WaitGroup
	defer waits.Wait()
	asking, silence := context.WithCancel(ctx)
	// Before stop: an agent that ends because we said so is no news.
	defer func() {
		silence()
		asks.Wait()
		c.stop(hurry)
	}()
	c.say("starting %d agents at %s.* in %s", len(members), c.plan.Network, c.dir)
	for _, m := range members {
		p, err := starter.launch(c.plan.describe(c.dir, c.cfg.Sidecar, m, c.cfg.Extra), c.dir, exits, &waits)
		if err != nil {
			return fmt.Errorf("%w; name the agent's executable with --sidecar", err)
		}
		c.processes = append(c.processes, p)
	}
	if err := c.write(); err != nil {
		return err
	}
	for _, p := range c.processes {
		asks.Go(func() { ask(asking, p.Agent, found) })
	}
	return c.watch(ctx, found, exits)
}

// write makes cluster.json.
func (c *cluster) write() error {
	var all Cluster
	for _, p := range c.processes {
		all.Agents = append(all.Agents, p.Agent)
	}
	text, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return err
	}
	return writeWhole(filepath.Join(c.dir, "cluster.json"), append(text, '\n'))
}

// watch tells what happens until ctx ends or nobody is left.
func (c *cluster) watch(ctx context.Context, found <-chan seen, exits <-chan *process) error {
	for left := len(c.processes); ; {
		select {
		case <-ctx.Done():
			return nil
		case s := <-found:
			for _, line := range c.picture.take(s) {
				c.say("%s", line)
			}
			c.show()
		case p := <-exits:
			left--
			c.say("%s (pid %d) has exited: %v; its log is %s", p.Name, p.PID, p.cmd.ProcessState, p.log)
			if p.cmd.ProcessState.Exited() {
				for _, line := range p.tail() {
					c.say("  %s: %s", p.Name, line)
				}
			}
			if left == 0 {
				return fmt.Errorf("%w; their logs are %s", ErrAllGone, filepath.Join(c.dir, "*.log"))
			}
		}
	}
}

// show prints, once, what to type next.
func (c *cluster) show() {
	if !c.picture.ready || c.shown {
		return
	}
	c.shown = true
	c.say("ready: all agents serve, %s leads", c.picture.leader)
	first, last := c.processes[0].Agent, c.processes[len(c.processes)-1].Agent
	leader := first
	for _, p := range c.processes {
		if p.Name == c.picture.leader {
			leader = p.Agent
		}
	}
	_, _ = fmt.Fprintf(c.cfg.Out, `
In other terminals, type next:

  %[1]s --socket %[2]s status
  %[1]s --socket %[2]s run hello -- sleep 60
  %[1]s --socket %[3]s run hello -- echo "my turn"    # waits for the sleep
  %[1]s --socket %[2]s ls
  kill -9 %[4]d    # %[5]s, which leads: watch another take over

What is killed stays dead; %[6]s has the commands that start them again.
Ctrl-C ends the cluster.

`, c.cfg.Program, first.Socket, last.Socket, leader.PID, leader.Name, filepath.Join(c.dir, "cluster.json"))
}

// stop ends the forwarders first, whose applications then lose nothing but
// their agent, and the voters together: one after the other they would elect.
func (c *cluster) stop(hurry <-chan struct{}) {
	var voters, forwarders []*process
	for _, p := range c.processes {
		if p.alive() && strings.HasPrefix(p.Name, "f") {
			forwarders = append(forwarders, p)
		} else if p.alive() {
			voters = append(voters, p)
		}
	}
	for _, some := range [][]*process{forwarders, voters} {
		if len(some) == 0 {
			continue
		}
		var names []string
		for _, p := range some {
			names = append(names, p.Name)
		}
		c.say("stopping %s", strings.Join(names, " "))
		if killed := stop(some, hurry); killed != nil {
			c.say("killed %s, which did not stop", strings.Join(killed, " "))
		}
	}
	c.say("all agents are stopped")
	if c.cfg.Dir != "" || c.cfg.Keep {
		c.say("the cluster is kept in %s: the same command with --dir starts it again", c.dir)
	}
}
