package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/raftlock/raftlock/cmd/raftlock/internal/fakeagent"
)

// wardenOf finds the warden among the session's processes.
func wardenOf(t *testing.T, a *fakeagent.Agent) int {
	t.Helper()
	processes := a.Processes()
	i := slices.IndexFunc(processes, isWarden)
	if i < 0 {
		t.Fatalf("no warden among %v", processes)
	}
	return processes[i]
}

func isWarden(pid int) bool {
	words, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return err == nil && bytes.Contains(words, []byte("\x00"+wardenVerb+"\x00"))
}

func send(t *testing.T, pid int, s syscall.Signal) {
	t.Helper()
	if err := unix.Kill(pid, s); err != nil {
		t.Fatal(err)
	}
}

// halt returns when all threads of a process are stopped: one that runs on for
// a moment could still do what it is to be kept from.
func halt(t *testing.T, pid int) {
	t.Helper()
	send(t, pid, syscall.SIGSTOP)
	threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, thread := range threads {
		awaitState(t, fmt.Sprintf("%d/task/%s", pid, thread.Name()), "T")
	}
}

// tree starts a command that is a shell with three children, one of them behind
// a pipe. All ignore TERM and say what the clock reads.
func tree(t *testing.T, socket string, args ...string) *program {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := startWith(t, []string{"RAFTLOCK_TEST_HELPER="}, append(append([]string{"--socket", socket}, args...), "a", "--", "sh", "-c",
		`export RAFTLOCK_TEST_HELPER=deaf; "$0" & "$0" | while read tick; do echo "$tick"; done & "$0"; wait`, self)...)
	p.line()
	return p
}

// The lock is free when the whole group is gone, and not before.
func TestRunnersDeathIsTheGroups(t *testing.T) {
	t.Parallel()
	a, socket := startAgent(t)
	p := tree(t, socket, "run")
	a.StrangerTakes("a")
	p.signal(syscall.SIGKILL)
	last := p.lastTick(fakeagent.Clock() + slack)
	_ = p.cmd.Wait()
	await(t, a, "grant a 2")
	if granted := a.When("grant a 2"); granted <= last {
		t.Errorf("granted to the next %v before the last of the group was gone", last-granted)
	}
}

func TestStoppedRunnersGroupIsKilledBeforeV(t *testing.T) {
	t.Parallel()
	beforeV(t, func() (v, last time.Duration) {
		a, socket := startAgent(t)
		p := tree(t, socket, "run", "--ttl", "3s")
		p.signal(syscall.SIGSTOP)
		awaitState(t, fmt.Sprint(p.cmd.Process.Pid), "T")
		v = a.Silence()
		// The runner has the output open, so there is no end of it: a while
		// without a tick is the end.
		for quiet := false; !quiet; {
			ticked, err := p.ticks(v+slack, 1500*time.Millisecond)
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatal(err)
			}
			quiet, last = ticked == 0, max(last, ticked)
		}
		if ran := v - last; ran > time.Second {
			t.Errorf("it was killed %v before V", ran)
		}
		p.signal(syscall.SIGCONT)
		p.exits(76)
		p.says("was killed") // and why, as it was noticed first: too late, or lost
		return v, last
	})
}

// No command runs without a warden.
func TestRunWithoutAWarden(t *testing.T) {
	t.Parallel()
	a, socket := startAgent(t)
	a.IgnoreJoins(isWarden)
	p := start(t, socket, "run", "--ttl", "2s", "a", "--", "echo", "started")
	if out := p.rest(); out != "" {
		t.Errorf("started: %q", out)
	}
	p.exits(75)
	p.says("warden")
	p.says("not started")
	if want := []string{"release a 1", "end"}; !slices.Equal(tail(a.Events()), want) {
		t.Errorf("not given back: %q", a.Events())
	}
}

// A warden that cannot be replaced has the command stopped.
func TestRunLosesItsWarden(t *testing.T) {
	t.Parallel()
	a, socket := startAgent(t)
	p := start(t, socket, "run", "--ttl", "3s", "a", "--", "sh", "-c", "echo ready; exec sleep 60")
	p.line()
	warden := wardenOf(t, a)
	awaitOrders(t, warden)
	a.IgnoreJoins(isWarden)
	send(t, warden, syscall.SIGKILL)
	p.exits(76)
	p.says("warden")
	p.says("was stopped")
}

// awaitOrders waits until a warden has been told when to kill: its alarm is set.
func awaitOrders(t *testing.T, warden int) {
	t.Helper()
	for until := time.Now().Add(patience); time.Now().Before(until); {
		files, err := filepath.Glob(fmt.Sprintf("/proc/%d/fdinfo/*", warden))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			info, err := os.ReadFile(file)
			if err == nil && bytes.Contains(info, []byte("it_value: (")) && !bytes.Contains(info, []byte("it_value: (0, 0)")) {
				return
			}
		}
	}
	t.Fatal("no order")
}

func count(events []string, event string) (n int) {
	for _, e := range events {
		if e == event {
			n++
		}
	}
	return n
}

func TestWardenIsReplaced(t *testing.T) {
	t.Parallel()
	a, socket := startAgent(t)
	p := tree(t, socket, "run")
	for joins := 3; joins <= 4; joins++ {
		send(t, wardenOf(t, a), syscall.SIGKILL)
		over := false
		if err := a.Await(patient(t), func(events []string) bool {
			over = slices.Contains(events, "end")
			return over || count(events, "join") == joins
		}); err != nil || over {
			t.Fatalf("over: %v (%v); stderr: %s", over, err, p.stderr.String())
		}
		// One that dies before would not be replaced again.
		awaitOrders(t, wardenOf(t, a))
	}
	p.signal(syscall.SIGKILL)
	p.lastTick(fakeagent.Clock() + slack)
}

// All that waits for the end of what the runner was given must not wait for the
// warden.
func TestWardenKeepsNothingOpen(t *testing.T) {
	t.Parallel()
	a, socket := startAgent(t)
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	cmd := exec.CommandContext(patient(t), "/proc/self/exe", "--socket", socket, "run", "a", "--", "sh", "-c", "echo; exec cat <&3")
	cmd.Args[0], cmd.ExtraFiles = "raftlock", []*os.File{read}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	warden := wardenOf(t, a)
	open := links(t, warden)
	for fd, what := range links(t, cmd.Process.Pid) {
		if strings.HasPrefix(what, "pipe:") && slices.Contains(open, what) {
			t.Errorf("the warden has the runner's %d: %s", fd, what)
		}
	}
	if folder, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", warden)); err != nil || folder != "/" {
		t.Errorf("the warden is in %s (%v)", folder, err)
	}
	_ = write.Close()
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

// links are what a process has open.
func links(t *testing.T, pid int) []string {
	t.Helper()
	dir := fmt.Sprintf("/proc/%d/fd/", pid)
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range entries {
		if what, err := os.Readlink(dir + e.Name()); err == nil {
			all = append(all, what)
		}
	}
	return all
}
