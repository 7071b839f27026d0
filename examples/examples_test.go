package examples

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"syscall"
	"testing"
	"time"

	"github.com/raftlock/raftlock/internal/devagent"
)

// bound is more than any example takes; it ends one that hangs.
const bound = 90 * time.Second

var bin string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		var err error
		if bin, err = os.MkdirTemp("", "rlx"); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer func() { _ = os.RemoveAll(bin) }()
		if err := devagent.Build("..", bin, "./examples/leader-election", "./examples/fencing"); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return m.Run()
	}())
}

// Every example is run as it is, and then with what it shows taken out: it has
// to notice.
func TestExamples(t *testing.T) {
	agent := devagent.Start(t, bin)
	for _, c := range []struct {
		name    string
		command []string
		// says is what the output has to match, line by line.
		says string
		// without takes the lock or the guard out; fails is what it then says.
		without, fails string
	}{
		{
			"leader election", []string{"leader-election"},
			`^candidate \d leads with token \d+\n` +
				`candidate \d is killed\n` +
				`candidate \d leads with token \d+, \S+ after the kill\n` +
				`candidate \d is killed\n` +
				`candidate \d leads with token \d+, \S+ after the kill\n` +
				`candidate \d is killed\n` +
				`ok: never two leaders at a time\n$`,
			"--without-lock", `FAILED: candidate \d leads, and candidate \d does too`,
		},
		{
			"fencing", []string{"fencing"},
			`^the first worker holds with token \d+, and is stopped before it writes\n` +
				`the second worker holds with token \d+, after \S+\n` +
				`the second worker writes: 200 OK\n` +
				`the first worker goes on and writes: 412 Precondition Failed\n` +
				`ok: the late write was refused, the report is the second worker's\n$`,
			"--without-guard", `FAILED: the report is "by the first worker"`,
		},
		{
			"singleton job", []string{"singleton-job/run.sh"},
			`^host \d: did it, with token \d+\nhost \d: done already\nhost \d: done already\nok: the job was done once\n$`,
			"--without-lock", `FAILED: the job was done [23] times`,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			out, err := run(t, agent, c.command...)
			if err != nil || !regexp.MustCompile(c.says).MatchString(out) {
				t.Errorf("%v\n%s", err, out)
			}
			out, err = run(t, agent, append(c.command, c.without)...)
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.ExitCode() != 1 || !regexp.MustCompile(c.fails).MatchString(out) {
				t.Errorf("with %s: %v\n%s", c.without, err, out)
			}
		})
	}
}

// run runs a program of bin, or a script of this folder, and ends all that it
// started when it takes too long.
func run(t *testing.T, agent *devagent.Agent, command ...string) (string, error) {
	t.Helper()
	path := filepath.Join(bin, command[0])
	if filepath.Ext(command[0]) != "" {
		path = "./" + command[0]
	}
	ctx, cancel := context.WithTimeout(t.Context(), bound)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, command[1:]...)
	cmd.Env = append(agent.Env(), "RAFTLOCK="+filepath.Join(bin, "raftlock"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	return out.String(), err
}
