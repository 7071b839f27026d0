package runner

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/raftlock/raftlock/internal/mutant"
	raftlock "github.com/raftlock/raftlock/sdk/go"
)

// briefing is the first line on the orders' pipe. Never an argument or a
// variable: those can be read by others.
type briefing struct {
	Pass   string        `json:"pass"`
	Socket string        `json:"socket"`
	TTL    time.Duration `json:"ttl"`
}

// clearance is the second: the command may be executed, by a child of Parent,
// before the clock reads Until.
type clearance struct {
	Parent int           `json:"parent"`
	Until  time.Duration `json:"until"`
}

const reportJoined = "joined"

var errTooLate = errors.New("the lock is about to be lost")

// Shim is the other end of Run: it runs in the process that will be the
// command. orders and reports are the pipes' descriptors. It returns only if
// the command was not executed: the exit status and why.
func Shim(ctx context.Context, orders, reports int, command []string) (int, error) {
	unix.CloseOnExec(orders)
	unix.CloseOnExec(reports)
	program, err := lookup(command[0])
	if err != nil {
		return statusOf(err), fmt.Errorf("%s: %w; look at the command's name and at PATH", command[0], err)
	}
	in := bufio.NewReader(os.NewFile(uintptr(orders), "orders"))
	var b briefing
	if err := read(in, &b); err != nil {
		return ExitNotAcquired, err
	}
	pass, err := raftlock.ParsePass(b.Pass)
	if err != nil {
		return ExitNotAcquired, err
	}
	if err := join(ctx, b, pass); err != nil {
		return ExitNotAcquired, fmt.Errorf("join the lock's session: %w; the command was not started", err)
	}
	if _, err := io.WriteString(os.NewFile(uintptr(reports), "reports"), reportJoined+"\n"); err != nil {
		return ExitNotAcquired, fmt.Errorf("report to the runner: %w", err)
	}
	var c clearance
	if err := read(in, &c); err != nil {
		return ExitNotAcquired, err
	}
	return execute(program, command, c)
}

// join makes this process one of the session's. The membership is not closed:
// it stays with the process, which the agent knows by its pidfd, and its stream
// ends with the execution.
func join(ctx context.Context, b briefing, pass raftlock.Pass) error {
	if mutant.On("run-joined") {
		return nil
	}
	client, err := raftlock.Dial(ctx, raftlock.WithSocket(b.Socket), raftlock.WithTTL(b.TTL))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, b.TTL)
	defer cancel()
	_, err = client.Join(ctx, pass)
	return err
}

func read(in *bufio.Reader, into any) error {
	line, err := in.ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("the runner is gone: %w", err)
	}
	if err := json.Unmarshal(line, into); err != nil {
		// Not the line itself: it may hold the pass.
		return errors.New("the runner's order cannot be read; start the command with raftlock run")
	}
	return nil
}

// execute becomes the command, if that is still in time.
func execute(program string, command []string, c clearance) (int, error) {
	// The thread that executes is what is left of the process, and PDEATHSIG
	// belongs to a thread: the one set at the fork is the first thread's.
	runtime.LockOSThread()
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(deathSignal()), 0, 0, 0); err != nil {
		return ExitNotRunnable, fmt.Errorf("have the kernel end the command with its runner: %w", err)
	}
	// After it, so that a runner that died before is noticed here and one that
	// dies later by the kernel.
	if os.Getppid() != c.Parent {
		return ExitNotAcquired, errors.New("the runner is gone")
	}
	if clock() >= c.Until && !mutant.On("run-late") {
		return ExitNotAcquired, errTooLate
	}
	err := syscall.Exec(program, command, os.Environ())
	return statusOf(err), fmt.Errorf("%s: %w", program, err)
}

// deathSignal is what the command gets when its runner dies.
func deathSignal() syscall.Signal {
	if mutant.On("run-death") {
		return 0
	}
	return syscall.SIGKILL
}

// lookup finds the program as a shell does; one in the current directory is
// taken if PATH says so.
func lookup(name string) (string, error) {
	program, err := exec.LookPath(name)
	if errors.Is(err, exec.ErrDot) {
		err = nil
	}
	return program, err
}

// statusOf is what shells say of a command that is not there, or cannot be
// executed.
func statusOf(err error) int {
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
		return ExitNotFound
	}
	return ExitNotRunnable
}
