package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/raftlock/raftlock/cmd/raftlock/internal/fakeagent"
)

func TestRunExitStatus(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	script := dir + "/not-executable"
	if err := os.WriteFile(script, []byte("#!/bin/sh\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name    string
		args    []string
		want    int
		says    string
		started bool
	}{
		{"success", []string{"run", "a", "--", "true"}, 0, "", true},
		{"the command's own", []string{"run", "a", "--", "sh", "-c", "exit 3"}, 3, "", true},
		{"a signal", []string{"run", "a", "--", "sh", "-c", "kill -9 $$"}, 137, "", true},
		{"not found", []string{"run", "a", "--", "no-such-command"}, 127, "PATH", true},
		{"a path not found", []string{"run", "a", "--", dir + "/nothing"}, 127, "nothing", true},
		{"not executable", []string{"run", "a", "--", script}, 126, "permission denied", true},
		{"a folder", []string{"run", "a", "--", dir}, 126, dir, true},
		{"no dashes", []string{"run", "a", "true"}, 64, "--", false},
		{"no command", []string{"run", "a", "--"}, 64, "--", false},
		{"two names", []string{"run", "a", "b", "--", "true"}, 64, "one lock's name", false},
		{"a flag of nobody's", []string{"run", "--bogus", "a", "--", "true"}, 64, "raftlock help", false},
		{"a TTL too short", []string{"run", "--ttl", "1ms", "a", "--", "true"}, 64, "raise it", false},
		{"a stopping time too long", []string{"run", "--stop-timeout", "6s", "a", "--", "true"}, 64, "half the TTL", false},
		{"negative wait", []string{"run", "--wait", "-1s", "a", "--", "true"}, 64, "--wait -1s is negative", false},
		{"try and wait", []string{"run", "--try", "--wait", "1s", "a", "--", "true"}, 64, "leave out --wait", false},
		{"an impossible name", []string{"run", "a\nb", "--", "true"}, 64, "control characters", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			a, socket := startAgent(t)
			p := start(t, socket, c.args...)
			p.exits(c.want)
			p.says(c.says)
			events := a.Events()
			// A join comes by a connection of its own, and may come late.
			calls := slices.DeleteFunc(slices.Clone(events), func(e string) bool { return e == "join" })
			if c.started && !slices.Equal(tail(calls), []string{"release a 1", "end"}) {
				t.Errorf("not given back: %q", events)
			}
		})
	}
}

func tail(events []string) []string { return events[max(0, len(events)-2):] }

func TestRunEnvironment(t *testing.T) {
	t.Parallel()
	a, socket := startAgent(t)
	a.StrangerTakes("other")
	p := start(t, socket, "run", "a b", "--", "sh", "-c",
		`echo "$RAFTLOCK_TOKEN/$RAFTLOCK_LOCK/$RAFTLOCK_SOCKET"; env; cat /proc/$$/cmdline`)
	if got, want := p.line(), "2/a b/"+socket; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	rest := p.rest()
	p.exits(0)
	if strings.Contains(rest, "raftlock1.") {
		t.Errorf("the pass can be seen by others:\n%s", rest)
	}
	if want := []string{"grant other 1", "open", "grant a b 2", "join", "join", "release a b 2", "end"}; !slices.Equal(a.Events(), want) {
		t.Errorf("events %q, want %q", a.Events(), want)
	}
}

func TestRunPassesDescriptorsThrough(t *testing.T) {
	t.Parallel()
	const list = "ls /proc/$$/fd; cat <&3"
	_, socket := startAgent(t)
	outputs := map[string]string{}
	for name, argv := range map[string][]string{
		"direct": {"sh", "-c", list},
		"run":    {"raftlock", "--socket", socket, "run", "a", "--", "sh", "-c", list},
	} {
		read, write, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := write.WriteString("from three\n"); err != nil {
			t.Fatal(err)
		}
		_ = write.Close()
		cmd := exec.CommandContext(patient(t), argv[0])
		if name == "run" {
			cmd = exec.CommandContext(patient(t), "/proc/self/exe")
		}
		cmd.Args, cmd.ExtraFiles = argv, []*os.File{read}
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		_ = read.Close()
		outputs[name] = string(out)
	}
	if outputs["run"] != outputs["direct"] || !strings.Contains(outputs["run"], "from three") {
		t.Errorf("got %q, want %q", outputs["run"], outputs["direct"])
	}
}

func TestRunForwardsSignals(t *testing.T) {
	t.Parallel()
	for _, s := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT,
		syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGWINCH} {
		t.Run(s.String(), func(t *testing.T) {
			t.Parallel()
			_, socket := startAgent(t)
			// The shell's child is of the group too, and must hear of it.
			p := start(t, socket, "run", "a", "--", "sh", "-c", fmt.Sprintf(
				`trap 'echo outer; exit 42' %d; sh -c 'trap "echo inner; exit" %d; echo ready; while :; do sleep 0.01; done'; while :; do sleep 0.01; done`, s, s))
			if got := p.line(); got != "ready" {
				t.Fatalf("got %q", got)
			}
			p.signal(s)
			both := []string{p.line(), p.line()}
			slices.Sort(both)
			if !slices.Equal(both, []string{"inner", "outer"}) {
				t.Errorf("heard by %q", both)
			}
			p.exits(42)
		})
	}
}

func TestRunStopsAndContinues(t *testing.T) {
	t.Parallel()
	_, socket := startAgent(t)
	// One that does not fork: a shell that waits for a stopped fork to execute
	// is not itself called stopped.
	p := start(t, socket, "run", "a", "--", "sh", "-c", "echo $$; exec sleep 60")
	pid := p.line()
	p.signal(syscall.SIGTSTP)
	awaitState(t, pid, "T")
	p.signal(syscall.SIGCONT)
	awaitState(t, pid, "S")
	p.signal(syscall.SIGTERM)
	p.exits(143)
}

// awaitState waits until a process is in a state of proc(5).
func awaitState(t *testing.T, pid, state string) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; {
		text, err := os.ReadFile("/proc/" + pid + "/stat")
		if err != nil {
			t.Fatal(err)
		}
		fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
		if fields[0] == state {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("process %s is %q, not %s", pid, fields[0], state)
		}
	}
}

func TestRunWaitsItsTurn(t *testing.T) {
	t.Parallel()
	a, socket := startAgent(t)
	a.StrangerTakes("a")
	p := start(t, socket, "run", "a", "--", "sh", "-c", "echo $RAFTLOCK_TOKEN")
	await(t, a, "wait a")
	a.StrangerLeaves("a")
	if got := p.line(); got != "2" {
		t.Errorf("token %s", got)
	}
	p.exits(0)
}

func TestRunIsNotAcquired(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		args []string
		says string
	}{
		{"try", []string{"run", "--try", "a", "--", "echo", "started"}, "lock is held"},
		{"wait", []string{"run", "--wait", "1s", "a", "--", "echo", "started"}, "still held after 1s"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			a, socket := startAgent(t)
			a.StrangerTakes("a")
			p := start(t, socket, c.args...)
			if out := p.rest(); out != "" {
				t.Errorf("started: %q", out)
			}
			p.exits(75)
			p.says(c.says)
			// On a busy host the wait may be over before the session is opened.
			if slices.Contains(a.Events(), "wait a") {
				await(t, a, "end")
			}
		})
	}
}

func TestRunFindsNoAgent(t *testing.T) {
	t.Parallel()
	socket := t.TempDir() + "/nobody.sock"
	p := start(t, socket, "run", "--wait", "100ms", "a", "--", "echo", "started")
	p.exits(69)
	p.says(socket)
	p.says("no such file or directory")
	p.says("RAFTLOCK_SOCKET")
}

func TestRunInterruptedWhileWaiting(t *testing.T) {
	t.Parallel()
	a, socket := startAgent(t)
	a.StrangerTakes("a")
	p := start(t, socket, "run", "a", "--", "echo", "started")
	await(t, a, "wait a")
	p.signal(syscall.SIGTERM)
	p.exits(143)
	if out := p.rest(); out != "" {
		t.Errorf("started: %q", out)
	}
	await(t, a, "end")
}

func TestRunIsRenewed(t *testing.T) {
	t.Parallel()
	a, socket := startAgent(t)
	// It would be stopped before the first TTL is over.
	p := start(t, socket, "run", "--ttl", "2s", "--stop-timeout", "100ms", "a", "--", "sleep", "3")
	p.exits(0)
	if want := []string{"release a 1", "end"}; !slices.Equal(tail(a.Events()), want) {
		t.Errorf("events %q", a.Events())
	}
}

// ticking starts a command that says what the clock reads, and waits for it.
func ticking(t *testing.T, socket, helper string, args ...string) *program {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return start(t, socket, append(args, "a", "--", "env", "RAFTLOCK_TEST_HELPER="+helper, self)...)
}

// lastTick reads all and returns the latest reading, 0 if there is none. One that
// is not before late fails the test at once: no more time is spent on a command
// that is seen to run on.
func (p *program) lastTick(late time.Duration) time.Duration {
	p.t.Helper()
	last, err := p.ticks(late, patience)
	if err != io.EOF { // which comes with what is left of a line
		p.t.Fatalf("the output stays open: %v; stderr: %s", err, p.stderr.String())
	}
	return last
}

// ticks reads for a while, or to the end.
func (p *program) ticks(late, while time.Duration) (last time.Duration, err error) {
	p.t.Helper()
	if err := p.out.SetReadDeadline(time.Now().Add(while)); err != nil {
		p.t.Fatal(err)
	}
	for {
		line, err := p.lines.ReadString('\n')
		if err != nil {
			return last, err
		}
		nanos, err := strconv.ParseInt(strings.TrimSuffix(line, "\n"), 10, 64)
		if err != nil {
			p.t.Fatal(err)
		}
		if last = max(last, time.Duration(nanos)); last >= late {
			p.t.Fatalf("the command runs on %v after it must not; stderr: %s", last-late, p.stderr.String())
		}
	}
}

// deaf is a command that only SIGKILL ends.
const deaf = `trap '' TERM; echo ready; while :; do sleep 0.01; done`

func TestRunStopsBeforeV(t *testing.T) {
	t.Parallel()
	beforeV(t, func() (v, last time.Duration) {
		a, socket := startAgent(t)
		p := ticking(t, socket, "tick", "run", "--ttl", "1s", "--stop-timeout", "200ms")
		first, err := strconv.ParseInt(p.line(), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		v = a.Silence()
		last = p.lastTick(v + slack)
		if ran := v - last; ran > 600*time.Millisecond || last <= time.Duration(first) {
			t.Errorf("it was stopped %v before V", ran)
		}
		p.exits(76)
		if last < v {
			p.says("not renewed in time")
		}
		return v, last
	})
}

// beforeV fails if the command runs past V whenever it is tried. Once it may: a
// kill takes as long as any wake-up, and a host that is taken by others can be
// longer than what is kept before V. A product that is late is late each time.
func beforeV(t *testing.T, try func() (v, last time.Duration)) {
	t.Helper()
	const tries = 5
	for range tries {
		v, last := try()
		if last < v {
			return
		}
		t.Logf("the command ran on %v past V", last-v)
	}
	t.Errorf("the command ran past V %d times out of %d", tries, tries)
}

func TestRunKillsBeforeV(t *testing.T) {
	t.Parallel()
	beforeV(t, func() (v, last time.Duration) {
		a, socket := startAgent(t)
		p := ticking(t, socket, "deaf", "run", "--ttl", "1s")
		p.line()
		halt(t, wardenOf(t, a)) // it would do the same
		v = a.Silence()
		last = p.lastTick(v + slack)
		p.exits(76)
		p.says("killed")
		return v, last
	})
}

func TestRunIsRevoked(t *testing.T) {
	t.Parallel()
	a, socket := startAgent(t)
	p := start(t, socket, "run", "--ttl", "1h", "--stop-timeout", "30m", "a", "--", "sh", "-c",
		`trap 'echo stopping; exit 0' TERM; echo ready; while :; do sleep 0.01; done`)
	p.line()
	a.Revoke("a")
	if got := p.line(); got != "stopping" {
		t.Errorf("got %q", got)
	}
	p.exits(76)
	p.says("revoked")
	if want := []string{"release a 1", "end"}; !slices.Equal(tail(a.Events()), want) {
		t.Errorf("events %q", a.Events())
	}
}

func TestRunIsRevokedAndDeaf(t *testing.T) {
	t.Parallel()
	beforeV(t, func() (v, last time.Duration) {
		a, socket := startAgent(t)
		p := ticking(t, socket, "deaf", "run", "--ttl", "1s")
		p.line()
		v = a.Revoke("a")
		last = p.lastTick(v + slack)
		p.exits(76)
		p.says("killed")
		return v, last
	})
}

func TestRunLosesItsSession(t *testing.T) {
	t.Parallel()
	a, socket := startAgent(t)
	p := start(t, socket, "run", "--ttl", "1h", "--stop-timeout", "30m", "a", "--", "sh", "-c", deaf)
	p.line()
	a.EndSessions()
	p.exits(76) // at once: there is no time for stopping
	p.says("lost")
}

func TestRunIsTooLate(t *testing.T) {
	t.Parallel()
	a, socket := startAgent(t)
	a.IgnoreJoins(func(int) bool { return true })
	p := start(t, socket, "run", "--ttl", "600ms", "a", "--", "echo", "started")
	await(t, a, "join")
	a.Silence()
	p.exits(76)
	if out := p.rest(); out != "" {
		t.Errorf("started: %q", out)
	}
	p.says("not started")
}

// slack is what a busy host may take to end a process that was killed. Only
// tests that fail take so long.
const slack = 6 * time.Second

// By the kernel's hand, without the warden's.
func TestRunnersDeathIsTheCommands(t *testing.T) {
	t.Parallel()
	for _, signal := range []syscall.Signal{syscall.SIGKILL, syscall.SIGABRT} {
		t.Run(signal.String(), func(t *testing.T) {
			t.Parallel()
			a, socket := startAgent(t)
			p := ticking(t, socket, "tick", "run")
			p.line()
			warden := wardenOf(t, a)
			halt(t, warden)
			defer send(t, warden, syscall.SIGKILL)
			p.signal(signal)
			p.lastTick(fakeagent.Clock() + slack) // ends when the command is gone
			_ = p.cmd.Wait()
		})
	}
}

func TestRunClearsTheGroup(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, script string }{
		{"obedient", `RAFTLOCK_TEST_HELPER=tick "$0" & read ready < "$RAFTLOCK_TEST_READY"; exit 5`},
		{"deaf", `RAFTLOCK_TEST_HELPER=deaf "$0" & read ready < "$RAFTLOCK_TEST_READY"; exit 5`},
		// Its parent lives and has left the group, so it is not the runner's
		// orphan.
		{"somebody else's child", `( RAFTLOCK_TEST_HELPER=deaf "$0" &
			exec setsid sh -c 'echo left > "$RAFTLOCK_TEST_READY.left"; exec sleep 10' >/dev/null 2>&1 ) &
			read ready < "$RAFTLOCK_TEST_READY"; read left < "$RAFTLOCK_TEST_READY.left"; exit 5`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			a, socket := startAgent(t)
			fifo := t.TempDir() + "/fifo"
			if err := errors.Join(unix.Mkfifo(fifo, 0o600), unix.Mkfifo(fifo+".left", 0o600)); err != nil {
				t.Fatal(err)
			}
			p := startWith(t, []string{"RAFTLOCK_TEST_READY=" + fifo},
				"--socket", socket, "run", "--stop-timeout", "100ms", "a", "--", "sh", "-c", c.script, self)
			last := p.lastTick(fakeagent.Clock() + slack)
			p.exits(5)
			if given := a.When("release a 1"); given <= last {
				t.Errorf("given back %v before the last of the group was gone", last-given)
			}
		})
	}
}
