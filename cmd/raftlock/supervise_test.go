package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// supervisedEnv marks the process that runs the tests.
const supervisedEnv = "RAFTLOCK_TEST_SUPERVISED"

// supervise runs this binary again, as a child that runs the tests, and returns
// its exit status when everything that it started is killed and reaped:
// wardens outlive their runners on purpose, so a test that fails, panics or
// runs out of time would leave them behind. It is a process of its own because
// whoever reaps the orphans takes the children of os/exec too.
func supervise() (int, error) {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return 0, fmt.Errorf("become the reaper: %w", err)
	}
	runtime.LockOSThread() // the thread whose end kills the child
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGQUIT)
	tests, err := os.StartProcess("/proc/self/exe", os.Args, &os.ProcAttr{
		Env:   append(os.Environ(), supervisedEnv+"=1"),
		Files: []*os.File{os.Stdin, os.Stdout, os.Stderr},
		Sys:   &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL},
	})
	if err != nil {
		return 0, fmt.Errorf("run the tests: %w", err)
	}
	go func() {
		for s := range signals {
			_ = tests.Signal(s) // go test's time-out is a SIGQUIT
		}
	}()
	code := 0
	for over := false; ; {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, 0, nil)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.ECHILD:
			return code, nil
		case err != nil:
			return 0, err
		case pid == tests.Pid:
			over, code = true, status.ExitStatus()
			if status.Signaled() {
				code = 128 + int(status.Signal())
			}
		}
		if over { // again for each that is reaped: its children are ours now
			killChildren()
		}
	}
}

func killChildren() {
	for _, pid := range childrenOf(os.Getpid()) {
		_ = unix.Kill(pid, unix.SIGKILL) // ours until we reap it, so its number is its own
	}
}

func childrenOf(parent int) (pids []int) {
	tasks, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", parent))
	for _, task := range tasks {
		text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/children", parent, task.Name()))
		for _, word := range strings.Fields(string(text)) {
			if pid, err := strconv.Atoi(word); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// leaveEnv makes TestLeaver leave a process behind.
const leaveEnv = "RAFTLOCK_TEST_LEAVE"

// TestLeaver is the other process of TestNothingIsLeftBehind.
func TestLeaver(t *testing.T) {
	how := os.Getenv(leaveEnv)
	if how == "" {
		return
	}
	// Its parent is gone, as a warden's runner may be.
	cmd := exec.CommandContext(patient(t), "sh", "-c", "setsid sleep 600 >/dev/null 2>&1 & echo left $!")
	cmd.Stdout = os.Stdout
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	if how == "panic" {
		panic("as asked")
	}
	t.Fail()
}

func TestNothingIsLeftBehind(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"fail", "panic"} {
		cmd := exec.CommandContext(patient(t), "/proc/self/exe", "-test.run=^TestLeaver$")
		cmd.Args[0], cmd.Env = os.Args[0], append(os.Environ(), leaveEnv+"="+how)
		out, err := cmd.Output()
		if exit := new(exec.ExitError); !errors.As(err, &exit) {
			t.Errorf("%s: it ends with %v", how, err)
		}
		_, rest, _ := strings.Cut(string(out), "left ")
		word, _, _ := strings.Cut(rest, "\n")
		pid, err := strconv.Atoi(word)
		if err != nil {
			t.Fatalf("%s: nothing was started: %v, %q", how, err, out)
		}
		if err := unix.Kill(pid, 0); err != unix.ESRCH {
			t.Errorf("%s: process %d is left behind (%v)", how, pid, err)
		}
	}
}
