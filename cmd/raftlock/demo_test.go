package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	raftlockv1 "github.com/raftlock/raftlock/api/raftlock/v1"
	"github.com/raftlock/raftlock/cmd/raftlock/internal/demo"
	"github.com/raftlock/raftlock/cmd/raftlock/internal/fakeagent"
)

const fakeSidecarName = "raftlock-sidecar"

// fakeSidecar is this binary in the agent's place: it serves a socket, and says
// that n1 leads. It takes the flags that a demo gives to the real one.
func fakeSidecar() int {
	f := flag.NewFlagSet(fakeSidecarName, flag.ContinueOnError)
	name, socket, role := f.String("name", "", ""), f.String("socket", "", ""), f.String("role", "", "")
	for _, other := range []string{"data-dir", "admin-socket", "bind", "gossip-port", "peer-port", "join", "expect", "http", "log-format", "log-level"} {
		f.String(other, "", "")
	}
	fails, deaf := f.Bool("fake-fails", false, ""), f.Bool("fake-deaf", false, "")
	if err := f.Parse(os.Args[1:]); err != nil {
		return 2
	}
	if *fails {
		fmt.Fprintln(os.Stderr, "this agent cannot start")
		return 3
	}
	if leaked := slices.ContainsFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "RAFTLOCK_") }); leaked {
		fmt.Fprintln(os.Stderr, "the environment has RAFTLOCK_*")
		return 4
	}
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)
	_ = os.Remove(*socket)
	a, err := fakeagent.Listen(*socket)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 5
	}
	node := &raftlockv1.Node{Name: *name, Role: raftlockv1.Node_ROLE_VOTER, Alive: true}
	if *role == "forwarder" {
		node.Role = raftlockv1.Node_ROLE_FORWARDER
	}
	a.SetStatus(&raftlockv1.StatusResponse{Agent: *name, ClusterId: "c", Reach: raftlockv1.Reason_REASON_OK,
		LeaderName: "n1", Term: 7, HasQuorum: true, QuorumSize: 2, Nodes: []*raftlockv1.Node{node}})
	for {
		<-term
		if !*deaf {
			a.Close()
			return 0
		}
	}
}

// sidecar is a path to this binary under the agent's name.
func sidecar(t *testing.T) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), fakeSidecarName)
	if err := os.Symlink(self, path); err != nil {
		t.Fatal(err)
	}
	return path
}

func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "rl")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// startDemo starts three voters and a forwarder, and waits until all is ready.
func startDemo(t *testing.T, dir string, extra ...string) (*program, demo.Cluster) {
	t.Helper()
	args := []string{"demo", "--voters", "3", "--forwarders", "1", "--dir", dir, "--sidecar", sidecar(t)}
	p := start(t, "/nowhere", append(args, extra...)...)
	p.until("ready: all agents serve, n1 leads")
	p.until("Ctrl-C ends")
	return p, cluster(t, dir)
}

func cluster(t *testing.T, dir string) (c demo.Cluster) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "cluster.json"))
	if err == nil {
		err = json.Unmarshal(text, &c)
	}
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// until reads lines until one has the words, and returns it.
func (p *program) until(words string) string {
	p.t.Helper()
	for {
		if line := p.line(); strings.Contains(line, words) {
			return line
		}
	}
}

// watch returns a wait for the process's end.
func watch(t *testing.T, pid int) (gone func()) {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatalf("process %d: %v", pid, err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	return func() {
		t.Helper()
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		for {
			n, err := unix.Poll(fds, int(patience.Milliseconds()))
			if err == unix.EINTR {
				continue
			}
			if n != 1 {
				t.Errorf("process %d lives on: %v", pid, err)
			}
			return
		}
	}
}

func TestDemo(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	p, c := startDemo(t, dir)
	var names []string
	var gone []func()
	for _, a := range c.Agents {
		names = append(names, a.Name)
		gone = append(gone, watch(t, a.PID))
		host, _, _ := strings.Cut(a.HTTP, ":")
		if a.HTTP != host+":7951" || a.Gossip != host+":7946" || a.Peer != host+":7950" ||
			a.Socket != filepath.Join(dir, a.Name+".sock") || a.Admin != filepath.Join(dir, a.Name+".admin.sock") {
			t.Errorf("%+v", a)
		}
	}
	if want := []string{"n1", "n2", "n3", "f1"}; !slices.Equal(names, want) {
		t.Fatalf("agents %q, want %q", names, want)
	}
	if joins := strings.Count(strings.Join(c.Agents[0].Command, " "), "--join 127."); joins != 3 {
		t.Errorf("%d joins in %q", joins, c.Agents[0].Command)
	}
	if err := syscall.Kill(c.Agents[1].PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if line := p.until("n2 (pid"); !strings.Contains(line, "signal: killed") {
		t.Errorf("%q", line)
	}
	p.signal(syscall.SIGINT)
	p.until("stopping f1")
	p.until("stopping n1 n3")
	p.until("kept in " + dir)
	p.exits(0)
	for _, wait := range gone {
		wait()
	}
}

func TestDemoAgain(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	var addresses [2][]string
	for round := range addresses {
		p, c := startDemo(t, dir)
		for _, a := range c.Agents {
			addresses[round] = append(addresses[round], a.Gossip)
		}
		if round == 0 {
			second := start(t, "/nowhere", "demo", "--dir", dir, "--sidecar", sidecar(t))
			second.exits(1)
			second.says("another demo runs in " + dir)
		}
		p.signal(syscall.SIGTERM)
		p.exits(0)
	}
	if !slices.Equal(addresses[0], addresses[1]) {
		t.Errorf("addresses %q, then %q", addresses[0], addresses[1])
	}
	other := start(t, "/nowhere", "demo", "--voters", "5", "--dir", dir, "--sidecar", sidecar(t))
	other.exits(1)
	other.says("3 voters and 1 forwarders")
}

func TestDemosDeathIsItsAgents(t *testing.T) {
	t.Parallel()
	p, c := startDemo(t, shortDir(t))
	var gone []func()
	for _, a := range c.Agents {
		gone = append(gone, watch(t, a.PID))
	}
	p.signal(syscall.SIGKILL)
	for _, wait := range gone {
		wait()
	}
}

func TestDemoIsInAHurry(t *testing.T) {
	t.Parallel()
	p, _ := startDemo(t, shortDir(t), "--", "--fake-deaf")
	p.signal(syscall.SIGINT)
	p.until("stopping f1")
	p.signal(syscall.SIGINT)
	p.until("killed f1")
	p.until("killed n1 n2 n3")
	p.exits(0)
}

func TestDemoOfAgentsThatCannotStart(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	p := start(t, "/nowhere", "demo", "--voters", "1", "--forwarders", "0", "--dir", dir, "--sidecar", sidecar(t), "--", "--fake-fails")
	p.until("n1: this agent cannot start")
	p.exits(1)
	p.says("all agents have exited")
	if c := cluster(t, dir); len(c.Agents) != 1 {
		t.Errorf("%+v", c)
	}
}

func TestDemoRefuses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		args []string
		want int
		says string
	}{
		{"an even number of voters", []string{"--voters", "4"}, 64, "1, 3 or 5"},
		{"too many", []string{"--forwarders", "1000"}, 64, "0 to 95"},
		{"arguments", []string{"five"}, 64, "only flags"},
		{"a path too long", []string{"--dir", "/tmp/" + strings.Repeat("long", 30), "--sidecar", "/bin/true"}, 1, "shorter by"},
		{"no such agent", []string{"--sidecar", "/nowhere/sidecar"}, 64, "--sidecar"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := start(t, "/nowhere", append([]string{"demo"}, c.args...)...)
			p.exits(c.want)
			p.says(c.says)
		})
	}
}

func TestDemoRemovesItsTemporaryPlace(t *testing.T) {
	t.Parallel()
	tmp := shortDir(t)
	p := startWith(t, []string{"TMPDIR=" + tmp, "RAFTLOCK_NAME=not for agents"}, "demo", "--voters", "1", "--forwarders", "0", "--sidecar", sidecar(t))
	p.until("Ctrl-C ends")
	if left, err := os.ReadDir(tmp); err != nil || len(left) != 1 {
		t.Errorf("%v, %v", left, err)
	}
	p.signal(syscall.SIGINT)
	p.exits(0)
	if left, err := os.ReadDir(tmp); err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}
