// Package devagent gives tests of examples and of documentation what a first
// reader has: the programs, built from this tree, and an agent of one host
// ("make run"). It exists so that what the documentation tells people to type is
// typed by a test too.
//
// It promises that agents of two tests do not meet (a folder and free ports
// each), and that nothing is left behind: an agent ends with its test, and dies
// with the process of the tests however that ends.
//
// Each process has one goroutine, which the test's cleanup waits for.
package devagent

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"
)

// readyWithin bounds how long an agent takes to have a leader: itself.
const readyWithin = time.Minute

// Build builds the daemon, the tool and further packages of this module (as
// paths from its root, "./examples/fencing") into dir. Each program has its
// folder's name, the daemon raftlock-sidecar. root is the module's folder.
func Build(root, dir string, packages ...string) error {
	build := func(out string, packages ...string) error {
		cmd := exec.Command("go", append([]string{"build", "-buildvcs=false", "-o", out}, packages...)...)
		cmd.Dir = root
		if text, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("build %v: %w\n%s", packages, err, text)
		}
		return nil
	}
	return errors.Join(
		build(filepath.Join(dir, "raftlock-sidecar"), "./cmd/sidecar"),
		build(dir+string(filepath.Separator), append(packages, "./cmd/raftlock")...),
	)
}

// Main is what TestMain exits with: it runs tests that have the programs of
// Build in the folder bin.
func Main(m *testing.M, root string, bin *string, packages ...string) (status int) {
	dir, err := os.MkdirTemp("", "rl") // short: a socket's path has a bound
	if err == nil {
		defer func() { _ = os.RemoveAll(dir) }()
		*bin, err = dir, Build(root, dir, packages...)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// An Agent is one running sidecar.
type Agent struct {
	// Bin has the programs. Home is the agent's home folder, so that its state
	// and sockets are where "make run" puts them.
	Bin, Home string
	// Socket and AdminSocket are the agent's; HTTP is its host:port.
	Socket, AdminSocket, HTTP string
}

// Start runs the sidecar of bin as "make run" does, with further flags, until
// the test ends. It returns once a lock was taken and given back.
func Start(t testing.TB, bin string, flags ...string) *Agent {
	t.Helper()
	home, err := os.MkdirTemp("", "rl") // short: a socket's path has a bound
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(home) })
	state := filepath.Join(home, ".local", "state", "raftlock-dev")
	a := &Agent{
		Bin: bin, Home: home, HTTP: freePort(t),
		Socket: filepath.Join(state, "raftlock.sock"), AdminSocket: filepath.Join(state, "admin.sock"),
	}
	args := append([]string{"--dev", "--dev-dir", state, "--gossip-port", "0", "--peer-port", "0", "--http", a.HTTP}, flags...)
	Run(t, exec.Command(filepath.Join(bin, "raftlock-sidecar"), args...))

	tool := a.Command("raftlock", "run", "--wait", readyWithin.String(), "ready", "--", "true")
	if out, err := tool.CombinedOutput(); err != nil {
		t.Fatalf("the agent took no lock: %v\n%s", err, out)
	}
	return a
}

// Run runs cmd and its process group until the test ends; what it said is
// logged if the test fails. It is started on a thread that stays for as long as
// it does, since it dies with that thread.
func Run(t testing.TB, cmd *exec.Cmd) {
	t.Helper()
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	started, ended := make(chan error, 1), make(chan struct{})
	go func() {
		defer close(ended)
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		<-ended
		if t.Failed() {
			t.Logf("%v said:\n%s", cmd.Args, log.String())
		}
	})
}

// Env is the environment of somebody who uses this agent: the programs are on
// the PATH.
func (a *Agent) Env() []string {
	return append(os.Environ(),
		"PATH="+a.Bin+string(os.PathListSeparator)+os.Getenv("PATH"),
		"RAFTLOCK_SOCKET="+a.Socket, "RAFTLOCK_ADMIN_SOCKET="+a.AdminSocket)
}

// Command is a program of Bin with the agent's environment.
func (a *Agent) Command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(a.Bin, name), args...)
	cmd.Env = a.Env()
	return cmd
}

// freePort is a loopback host:port that nobody had a moment ago.
func freePort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}
