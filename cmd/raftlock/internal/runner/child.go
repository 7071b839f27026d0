package runner

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/raftlock/raftlock/internal/mutant"
)

// child is the command's process, its group, and the pipes to the shim.
type child struct {
	pid     int // and the group's id
	group   group
	orders  *os.File
	joined  chan struct{}       // the shim has joined the session
	started chan struct{}       // the shim is no more: the command runs, or nothing
	stopped chan syscall.Signal // the command was stopped; holds the last
	ended   chan struct{}       // the command is gone; status is set before
	gone    chan struct{}       // nothing of the group is left
	status  syscall.WaitStatus
	working sync.WaitGroup
}

// startChild starts the shim. With tty the child's group becomes its
// foreground. The pipes' ends are inherited under their own numbers, so that
// descriptors that the runner's parent meant for the command stay what they are.
func startChild(cfg *Config, env []string, tty *terminal) (*child, error) {
	// Orphans of the group become our children, and their end is ours to see.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return nil, fmt.Errorf("become the reaper of the command's orphans: %w", err)
	}
	orders, toShim, err := pipe()
	if err != nil {
		return nil, err
	}
	defer unix.Close(orders)
	fromShim, reports, err := pipe()
	if err != nil {
		_ = unix.Close(toShim)
		return nil, err
	}
	defer unix.Close(reports)
	unix.CloseOnExec(toShim)
	unix.CloseOnExec(fromShim)
	c := &child{
		group:  group{fd: -1},
		orders: os.NewFile(uintptr(toShim), "orders"),
		joined: make(chan struct{}), started: make(chan struct{}), stopped: make(chan syscall.Signal, 1),
		ended: make(chan struct{}), gone: make(chan struct{}),
	}
	argv := append(append([]string{"raftlock"}, cfg.Shim[1:]...), strconv.Itoa(orders), strconv.Itoa(reports), "--")
	attr := &syscall.ProcAttr{
		Env:   env,
		Files: []uintptr{cfg.Stdin.Fd(), cfg.Stdout.Fd(), cfg.Stderr.Fd()},
		Sys:   &syscall.SysProcAttr{Setpgid: true, Pdeathsig: deathSignal(), PidFD: &c.group.fd},
	}
	if tty != nil {
		attr.Sys.Foreground, attr.Sys.Ctty = true, tty.fd
	}
	forked := make(chan error)
	c.working.Go(func() { c.keep(cfg.Shim[0], append(argv, cfg.Command...), attr, forked) })
	if err := <-forked; err != nil {
		_ = c.orders.Close()
		_ = unix.Close(fromShim)
		return nil, fmt.Errorf("start %s: %w", cfg.Shim[0], err)
	}
	c.working.Go(func() { c.hear(os.NewFile(uintptr(fromShim), "reports")) })
	return c, nil
}

// pipe makes one whose ends a started program inherits.
func pipe() (read, write int, err error) {
	var ends [2]int
	if err := unix.Pipe2(ends[:], 0); err != nil {
		return 0, 0, fmt.Errorf("make a pipe: %w", err)
	}
	return ends[0], ends[1], nil
}

// keep starts the shim and waits for it and the rest of its group. The kernel
// sends PDEATHSIG when the thread that forked ends, not when the process does:
// so the goroutine keeps its thread to itself until nothing is left to kill.
func (c *child) keep(path string, argv []string, attr *syscall.ProcAttr, forked chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var err error
	c.pid, err = syscall.ForkExec(path, argv, attr)
	c.group.id = c.pid
	forked <- err
	if err != nil {
		return
	}
	c.await()
	close(c.ended)
	c.awaitGroup()
	close(c.gone)
}

// awaitGroup returns when nothing of the group is left: orphans, which are ours
// by now, and then children of processes that have left the group themselves.
func (c *child) awaitGroup() {
	for pause := time.Millisecond; ; pause = min(2*pause, emptyPauseMax) {
		_, err := syscall.Wait4(-c.pid, nil, 0, nil)
		switch {
		case err == nil, err == syscall.EINTR:
			pause = time.Millisecond
			continue
		case c.group.empty() || mutant.On("run-outside"):
			return
		}
		time.Sleep(pause)
	}
}

// await returns when the command is gone. Orphans that end meanwhile are
// reaped by the way.
func (c *child) await() {
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, syscall.WUNTRACED, nil)
		switch {
		case err == syscall.EINTR || err == nil && pid != c.pid:
		case err != nil:
			// ECHILD: somebody else has waited for it. Nothing is known.
			c.status = syscall.WaitStatus(exitLostChild << 8)
			return
		case status.Stopped():
			select {
			case <-c.stopped:
			default:
			}
			c.stopped <- status.StopSignal()
		default:
			c.status = status
			return
		}
	}
}

// exitLostChild is the status of a command whose own was never learned.
const exitLostChild = 1

// hear reads what the shim says: that it joined. The end of the pipe is its end.
func (c *child) hear(reports *os.File) {
	defer reports.Close()
	defer close(c.started)
	lines := bufio.NewScanner(reports)
	for lines.Scan() {
		if lines.Text() == reportJoined {
			close(c.joined)
			break
		}
	}
	for lines.Scan() {
	}
}

// signal sends to all of the group. Once the group is gone there is nobody to
// miss it; gone is looked at first, so that where a group is known by its number
// alone no later one is meant but in the instant between.
func (c *child) signal(s syscall.Signal) {
	select {
	case <-c.gone:
	default:
		_ = c.group.signal(s)
	}
}

// exitCode is the status as a shell would give it.
func (c *child) exitCode() int {
	if c.status.Signaled() {
		return ExitSignal + int(c.status.Signal())
	}
	return c.status.ExitStatus()
}
