package runner

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestMain lets this binary be a process that executes a command, as the last
// step of a shim does.
func TestMain(m *testing.M) {
	if os.Args[0] != "execute" {
		os.Exit(m.Run())
	}
	var c clearance
	if err := json.Unmarshal([]byte(os.Args[1]), &c); err != nil {
		panic(err)
	}
	code, err := execute("/bin/echo", []string{"echo", "executed"}, c)
	_, _ = os.Stderr.WriteString(err.Error())
	os.Exit(code)
}

func TestExecuteLooksTwice(t *testing.T) {
	for _, c := range []struct {
		name  string
		order clearance
		code  int
		says  string
	}{
		{"in time", clearance{os.Getpid(), clock() + time.Hour}, 0, "executed"},
		{"too late", clearance{os.Getpid(), clock()}, ExitNotAcquired, errTooLate.Error()},
		{"an orphan", clearance{1 << 30, clock() + time.Hour}, ExitNotAcquired, "runner is gone"},
	} {
		t.Run(c.name, func(t *testing.T) {
			order, err := json.Marshal(c.order)
			if err != nil {
				t.Fatal(err)
			}
			cmd := exec.CommandContext(t.Context(), "/proc/self/exe")
			cmd.Args = []string{"execute", string(order)}
			out, err := cmd.CombinedOutput()
			if code := cmd.ProcessState.ExitCode(); code != c.code || !strings.Contains(string(out), c.says) {
				t.Errorf("%d (%v), %q", code, err, out)
			}
		})
	}
}

func TestStatusOf(t *testing.T) {
	for _, c := range []struct {
		name string
		err  error
		want int
	}{
		{"not in PATH", &exec.Error{Name: "x", Err: exec.ErrNotFound}, ExitNotFound},
		{"no such file", syscall.ENOENT, ExitNotFound},
		{"no permission", syscall.EACCES, ExitNotRunnable},
		{"no format", syscall.ENOEXEC, ExitNotRunnable},
		{"anything else", errors.New("?"), ExitNotRunnable},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := statusOf(c.err); got != c.want {
				t.Errorf("%d, want %d", got, c.want)
			}
		})
	}
}

func TestValidateSaysAll(t *testing.T) {
	c := Config{TTL: time.Millisecond, StopTimeout: time.Second, Try: true, Wait: time.Second}
	err := c.Validate()
	if err == nil {
		t.Fatal("accepted")
	}
	if lines := bytes.Count([]byte(err.Error()), []byte("\n")); lines != 4 {
		t.Errorf("%d lines: %v", lines+1, err)
	}
}
