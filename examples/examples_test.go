package examples

import (
	"bytes"
	"context"
	"errors"
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
const bound = 3 * time.Minute

var bin string

func TestMain(m *testing.M) {
	os.Exit(devagent.Main(m, "..", &bin, "./examples/leader-election", "./examples/fencing"))
}

// Every example is run as it is, and then with what it shows taken out: it has
// to notice.
func TestExamples(t *testing.T) {
	agent := devagent.Start(t, bin)
	python, _ := devagent.Python(t, "..")
	for _, c := range []struct {
		name    string
		command []string
		// says is what the output has to match, line by line.
		says string
		// without has the flags that take the lock or the guard out, and what it
		// then says.
		without map[string]string
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
			map[string]string{"--without-lock": `FAILED: candidate \d leads, and candidate \d does too`},
		},
		{
			"fencing", []string{"fencing"},
			`^the first worker holds with token \d+, and is stopped before it writes\n` +
				`the second worker holds with token \d+, after \S+\n` +
				`the second worker writes: 200 OK\n` +
				`the first worker goes on and writes: 412 Precondition Failed\n` +
				`ok: the late write was refused, the report is the second worker's\n$`,
			map[string]string{"--without-guard": `FAILED: the report is "by the first worker"`},
		},
		{
			"singleton job", []string{"singleton-job/run.sh"},
			`^host \d: did it, with token \d+\nhost \d: done already\nhost \d: done already\nok: the job was done once\n$`,
			map[string]string{"--without-lock": `FAILED: the job was done [23] times`},
		},
		{
			"reservation", []string{python, "reservation/reservation.py"},
			`^Ada decides about table 1\nexamples/table/1 is held by Ada\nAda's program dies\n` +
				`((Ben|Cleo|Dora|Emil) (books table [123]|finds no table)\n){4}` +
				`ok: 3 tables, each booked once\n$`,
			map[string]string{"--without-lock": `FAILED: the bookings are `},
		},
		{
			"payment", []string{python, "payment/payment.py"},
			`^client 1 finds no charge\n` +
				`client 1 is stopped before it charges; the customer tries again\n` +
				`client 2 finds no charge\n` +
				`client 2 dies after its charge; the customer tries again\n` +
				`client 1 is refused: its time is over\n` +
				`client 3 finds it charged\n` +
				`ok: charged once, by client 2\n$`,
			map[string]string{
				"--without-lock":  `FAILED: charged 2 times, by client 2 and client 1`,
				"--without-guard": `FAILED: charged 2 times, by client 2 and client 1`,
			},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			out, err := run(t, agent, c.command...)
			t.Logf("%v:\n%s", c.command, out)
			if err != nil || !regexp.MustCompile(c.says).MatchString(out) {
				t.Errorf("%v; want %s", err, c.says)
			}
			for without, fails := range c.without {
				out, err = run(t, agent, append(c.command[:len(c.command):len(c.command)], without)...)
				t.Logf("%v %s:\n%s", c.command, without, out)
				var exit *exec.ExitError
				if !errors.As(err, &exit) || exit.ExitCode() != 1 || !regexp.MustCompile(fails).MatchString(out) {
					t.Errorf("with %s: %v; want %s", without, err, fails)
				}
			}
		})
	}
}

// run runs a program of bin, or a script of this folder, and ends all that it
// started when it takes too long.
func run(t *testing.T, agent *devagent.Agent, command ...string) (string, error) {
	t.Helper()
	path := command[0]
	switch {
	case filepath.IsAbs(path):
	case filepath.Ext(path) == ".sh":
		path = "./" + path
	default:
		path = filepath.Join(bin, path)
	}
	ctx, cancel := context.WithTimeout(t.Context(), bound)
	defer cancel()
	// In a process group, so that all that it started ends with it. (It cannot die
	// with the tests' thread: threads of a Go test come and go.)
	cmd := exec.CommandContext(ctx, path, command[1:]...)
	_, env := devagent.Python(t, "..")
	cmd.Env = append(append(agent.Env(), "RAFTLOCK="+filepath.Join(bin, "raftlock")), env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // what a failed one left
	return out.String(), err
}
