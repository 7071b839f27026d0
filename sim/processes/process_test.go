package processes

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A thread is one thread of the kernel on which processes are started. They
// inherit its network namespace, and die with it.
type thread struct {
	work chan func()
	tid  int
}

// home is the thread of the run's own network namespace.
var home *thread

func newThread() *thread {
	h := &thread{work: make(chan func())}
	ready := make(chan struct{})
	go func() {
		// Never unlocked: the thread ends with the goroutine, and with the
		// thread its processes and its namespace.
		runtime.LockOSThread()
		h.tid = unix.Gettid()
		close(ready)
		for f := range h.work {
			f()
		}
	}()
	<-ready
	return h
}

func (h *thread) end() { close(h.work) }

// do calls f on the thread and waits for it.
func (h *thread) do(f func()) {
	done := make(chan struct{})
	h.work <- func() { f(); close(done) }
	<-done
}

func (h *thread) run(name string, args ...string) error {
	return h.feed("", name, args...)
}

// feed runs a command to its end, with text as its input.
func (h *thread) feed(text, name string, args ...string) error {
	cmd := exec.Command(name, args...)
	cmd.Stdin = strings.NewReader(text)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	var err error
	h.do(func() { err = cmd.Start() })
	if err == nil {
		err = cmd.Wait()
	}
	if err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, out.String())
	}
	return nil
}

// A process that a thread started.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when it has been waited for
	// meant: a test wanted its end.
	meant bool
}

// spawn says how to start a process.
type spawn struct {
	path string
	args []string
	part string // of this binary; empty for others
	in   *os.File
	out  *os.File // nil: the log
	log  *os.File
	// pidNamespace: it becomes the first process of one.
	pidNamespace bool
	env          []string // beside what every one gets
}

func (h *thread) start(t testing.TB, s spawn) *process {
	t.Helper()
	path, args, part := s.path, s.args, s.part
	attr := &syscall.SysProcAttr{Pdeathsig: unix.SIGKILL}
	if s.pidNamespace {
		path, args, part = self(t), append([]string{s.path}, s.args...), partInit
		attr.Cloneflags = unix.CLONE_NEWPID | unix.CLONE_NEWNS
	}
	cmd := exec.Command(path, args...)
	cmd.Env, cmd.SysProcAttr = append(environment(), partEnv+"="+part, thenEnv+"="+s.part), attr
	cmd.Env = append(cmd.Env, s.env...)
	cmd.Stdout, cmd.Stderr = s.log, s.log
	if s.in != nil {
		cmd.Stdin = s.in
	}
	if s.out != nil {
		cmd.Stdout = s.out
	}
	var err error
	h.do(func() { err = cmd.Start() })
	if err != nil {
		t.Fatalf("start %s: %v", s.path, err)
	}
	p := &process{cmd: cmd, done: make(chan struct{})}
	go func() {
		_ = cmd.Wait() // how it ended is in its log, or was our doing
		close(p.done)
	}()
	return p
}

// environment is this process's without what would set flags of an agent or of
// the tool behind the test's back.
func environment() []string {
	return slices.DeleteFunc(os.Environ(), func(e string) bool {
		name, _, _ := strings.Cut(e, "=")
		return strings.HasPrefix(name, "RAFTLOCK_") && name != "RAFTLOCK_MUTANT" && name != dirEnv || strings.HasPrefix(name, "OTEL_")
	})
}

func self(t testing.TB) string {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return exe
}

func (p *process) pid() int { return p.cmd.Process.Pid }

func (p *process) signal(t testing.TB, s syscall.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		t.Fatalf("signal %v to %s: %v", s, p.cmd.Path, err)
	}
}

// kill kills it and waits for its end. It may have ended before.
func (p *process) kill() {
	p.meant = p.meant || p.running()
	_ = p.cmd.Process.Kill()
	<-p.done
}

// stop returns when it has stopped: the signal alone only asks for that.
func (p *process) stop(t testing.TB) {
	t.Helper()
	p.signal(t, unix.SIGSTOP)
	until(t, 10*time.Second, "the process is stopped", func() error {
		state, err := p.stat(0)
		if err == nil && state != "T" {
			err = fmt.Errorf("its state is %s", state)
		}
		return err
	})
}

func (p *process) running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// stat is a field of /proc/PID/stat, counted from the state on.
func (p *process) stat(field int) (string, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.pid()))
	if err != nil {
		return "", err
	}
	// The name, in brackets, may hold anything.
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if field >= len(fields) {
		return "", fmt.Errorf("/proc/%d/stat has %d fields", p.pid(), len(fields))
	}
	return fields[field], nil
}

// cpu is how much of it the process has used, to a hundredth of a second.
func (p *process) cpu(t testing.TB) time.Duration {
	t.Helper()
	var ticks int64
	for _, field := range []int{11, 12} { // utime and stime
		text, err := p.stat(field)
		if err != nil {
			t.Fatal(err)
		}
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

// until asks again and again until there is no error; then it is over, or the
// time is.
func until(t testing.TB, within time.Duration, what string, ask func() error) {
	t.Helper()
	if err := eventually(within, ask); err != nil {
		t.Fatalf("not within %s: %s: %v", within, what, err)
	}
}

func eventually(within time.Duration, ask func() error) error {
	over := time.After(within)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ask()
		if err == nil {
			return nil
		}
		select {
		case <-over:
			return err
		case <-tick.C:
		}
	}
}

// pass lets time go by: a fault lasts, a promise is put to the test. Nothing
// is waited for by it.
func pass(d time.Duration) { <-time.After(d) }
