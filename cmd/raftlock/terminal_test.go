package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// terminal is a pseudo terminal with a shell that runs a line in it.
type terminal struct {
	t      *testing.T
	keys   *os.File
	screen *bufio.Reader
	cmd    *exec.Cmd
}

// typeIn starts sh, leading a session on a terminal of its own, with a script in
// which "$raftlock" runs the program.
func typeIn(t *testing.T, socket, script string) *terminal {
	t.Helper()
	keys, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = keys.Close() })
	if err := unix.IoctlSetPointerInt(int(keys.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(int(keys.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	far, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer far.Close()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// bash can say what argv[0] is; -m gives jobs their groups and the terminal.
	script = fmt.Sprintf("raftlock() { ( exec -a raftlock %q --socket %q \"$@\" ); }\n%s", self, socket, script)
	tt := &terminal{t: t, keys: keys, screen: bufio.NewReader(keys), cmd: exec.CommandContext(patient(t), "bash", "-m", "-c", script)}
	tt.cmd.Stdin, tt.cmd.Stdout, tt.cmd.Stderr = far, far, far
	tt.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := tt.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tt.cmd.Process.Kill(); _ = tt.cmd.Wait() })
	return tt
}

func (tt *terminal) until(words string) {
	tt.t.Helper()
	if err := tt.keys.SetReadDeadline(time.Now().Add(patience)); err != nil {
		tt.t.Log(err) // then the shell's own time-out ends the read
	}
	var seen strings.Builder
	for {
		line, err := tt.screen.ReadString('\n')
		seen.WriteString(line)
		if strings.Contains(line, words) {
			return
		}
		if err != nil {
			tt.t.Fatalf("no %q on the screen: %v\n%s", words, err, seen.String())
		}
	}
}

func (tt *terminal) press(key string) {
	tt.t.Helper()
	if _, err := tt.keys.WriteString(key); err != nil {
		tt.t.Fatal(err)
	}
}

const (
	ctrlC = "\x03"
	ctrlZ = "\x1a"
)

func TestRunAtATerminal(t *testing.T) {
	t.Parallel()
	_, socket := startAgent(t)
	tt := typeIn(t, socket, `
raftlock run a -- bash -c 'trap "echo interrupted; exit 9" INT; echo ready; read x; echo "got $x"; while :; do sleep 0.01; done'
echo "status $?"
raftlock run a -- bash -c 'echo again'
read y; echo "shell got $y"`)
	tt.until("ready")
	tt.press("words\n") // the command may read, so it is in the foreground
	tt.until("got words")
	tt.press(ctrlC)
	tt.until("interrupted")
	tt.until("status 9")
	tt.until("again")
	tt.press("more\n") // the shell has its terminal back
	tt.until("shell got more")
}

func TestRunIsNotSuspended(t *testing.T) {
	t.Parallel()
	_, socket := startAgent(t)
	tt := typeIn(t, socket, `
raftlock run a -- bash -c 'echo ready; read x; echo "got $x"'
echo "status $?"`)
	tt.until("ready")
	tt.press(ctrlZ)
	tt.until("not suspended")
	tt.press("words\n")
	tt.until("got words")
	tt.until("status 0")
}

func TestRunTellsAPersonWhatItWaitsFor(t *testing.T) {
	t.Parallel()
	a, socket := startAgent(t)
	a.StrangerTakes("a")
	tt := typeIn(t, socket, `
raftlock run a -- true
echo "status $?"`)
	tt.until(`waiting for "a": held by "stranger" on "fake" with token 1, 1 in the queue`)
	tt.press(ctrlC)
	tt.until("status 130")
}
