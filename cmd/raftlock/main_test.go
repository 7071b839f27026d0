package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/raftlock/raftlock/cmd/raftlock/internal/fakeagent"
)

// TestMain lets this binary be five programs: the tests, the supervisor that
// cleans up after them, raftlock itself (a shim of it too), a fake agent for
// demos, and the helper that commands under a lock are made of.
func TestMain(m *testing.M) {
	if os.Args[0] == "raftlock" {
		main()
	}
	if filepath.Base(os.Args[0]) == fakeSidecarName {
		os.Exit(fakeSidecar())
	}
	switch os.Getenv("RAFTLOCK_TEST_HELPER") {
	case "deaf":
		signal.Ignore(syscall.SIGTERM)
		tick()
	case "tick":
		tick()
	}
	if os.Getenv(supervisedEnv) == "" {
		code, err := supervise()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
		os.Exit(code)
	}
	if err := os.Unsetenv(supervisedEnv); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

// tick says what the clock reads until it is killed. First it says to a pipe,
// if one is named, that it is there.
func tick() {
	if ready := os.Getenv("RAFTLOCK_TEST_READY"); ready != "" {
		if err := os.WriteFile(ready, []byte("ready\n"), 0o600); err != nil {
			panic(err)
		}
	}
	// Paced: on a busy host it must not be these that delay their own end.
	for range time.Tick(500 * time.Microsecond) {
		fmt.Println(int64(fakeagent.Clock()))
	}
}

// patience bounds every wait in these tests; none waits that long unless it fails.
const patience = 20 * time.Second

func patient(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

func startAgent(t *testing.T) (*fakeagent.Agent, string) {
	t.Helper()
	// Not t.TempDir: a test's name would make the path longer than a socket's.
	dir, err := os.MkdirTemp("", "rl")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket := filepath.Join(dir, "agent.sock")
	a, err := fakeagent.Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	return a, socket
}

// program is a raftlock process.
type program struct {
	t      testing.TB
	cmd    *exec.Cmd
	lines  *bufio.Reader // of its standard output
	out    *os.File
	write  *os.File // the other end, until it has begun
	stderr transcript
}

// transcript is what a program that may still run has said so far.
type transcript struct {
	mu   sync.Mutex // guards the rest
	text bytes.Buffer
	said chan struct{} // closed by the first word; nil: nobody has asked
}

func (tr *transcript) Write(p []byte) (int, error) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	if tr.said != nil && tr.text.Len() == 0 {
		close(tr.said)
	}
	return tr.text.Write(p)
}

// await returns when something was said, or most has passed.
func (tr *transcript) await(most time.Duration) {
	tr.mu.Lock()
	said := make(chan struct{})
	if tr.text.Len() > 0 {
		close(said)
	} else {
		tr.said = said
	}
	tr.mu.Unlock()
	select {
	case <-said:
	case <-time.After(most):
	}
}

func (tr *transcript) String() string {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return tr.text.String()
}

// start runs the real program in a process of its own.
func start(t *testing.T, socket string, args ...string) *program {
	t.Helper()
	return startWith(t, nil, append([]string{"--socket", socket}, args...)...)
}

func startWith(t *testing.T, environ []string, args ...string) *program {
	t.Helper()
	p := prepare(t, environ, args...)
	p.begin()
	return p
}

func prepare(t *testing.T, environ []string, args ...string) *program {
	t.Helper()
	p := &program{t: t, cmd: exec.CommandContext(patient(t), "/proc/self/exe")}
	p.cmd.Args, p.cmd.Env = append([]string{"raftlock"}, args...), append(os.Environ(), environ...)
	p.cmd.Stderr = &p.stderr
	// A command that outlives a program that failed must not keep the test.
	p.cmd.WaitDelay = time.Second
	out, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p.out, p.write, p.lines, p.cmd.Stdout = out, write, bufio.NewReader(out), write
	t.Cleanup(func() { _ = out.Close() })
	return p
}

func (p *program) begin() {
	p.t.Helper()
	err := p.cmd.Start()
	_ = p.write.Close()
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { _ = p.cmd.Process.Kill(); _ = p.cmd.Wait() })
}

// line reads the next line of the standard output.
func (p *program) line() string {
	p.t.Helper()
	line, err := p.lines.ReadString('\n')
	if err != nil {
		p.t.Fatalf("after %q: %v; stderr: %s", line, err, p.stderr.String())
	}
	return strings.TrimSuffix(line, "\n")
}

// rest reads until everything that had the output has closed it.
func (p *program) rest() string {
	p.t.Helper()
	if err := p.out.SetReadDeadline(time.Now().Add(patience)); err != nil {
		p.t.Fatal(err)
	}
	var b bytes.Buffer
	if _, err := b.ReadFrom(p.lines); err != nil {
		p.t.Fatalf("the output stays open: %v; at last %q", err, b.Bytes()[max(0, b.Len()-200):])
	}
	return b.String()
}

func (p *program) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// exits waits for the end and checks the status.
func (p *program) exits(want int) {
	p.t.Helper()
	_ = p.cmd.Wait()
	if got := p.cmd.ProcessState.ExitCode(); got != want {
		p.t.Errorf("exit status %d (%v), want %d; stderr: %s", got, p.cmd.ProcessState, want, p.stderr.String())
	}
}

// says checks what the standard error has; after exits.
func (p *program) says(want string) {
	p.t.Helper()
	if !strings.Contains(p.stderr.String(), want) {
		p.t.Errorf("stderr %q does not say %q", p.stderr.String(), want)
	}
}

func await(t *testing.T, a *fakeagent.Agent, event string) {
	t.Helper()
	if err := a.Await(patient(t), func(events []string) bool { return slices.Contains(events, event) }); err != nil {
		t.Fatalf("no %q: %v", event, err)
	}
}
