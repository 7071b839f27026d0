package systemd

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/raftlock/raftlock/internal/needs"
)

// patience bounds what should take a moment, on a host that is busy.
const patience = time.Minute

// host is a systemd that booted, with the agent installed.
type host struct {
	t   *testing.T
	pid int // systemd's, here
}

// programs are this tree's, as they ship: made once, into a folder of TestMain's.
var programs = sync.OnceValue(func() error {
	for program, pkg := range map[string]string{"raftlock-sidecar": "./cmd/sidecar", "raftlock": "./cmd/raftlock"} {
		cmd := exec.Command("go", "build", "-buildvcs=false", "-trimpath", "-o", filepath.Join(bin, program), pkg)
		cmd.Dir, cmd.Env = "../..", append(os.Environ(), "CGO_ENABLED=0")
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("build %s: %w: %s", program, err, out)
		}
	}
	return nil
})

// bin is where programs puts them.
var bin string

func TestMain(m *testing.M) { os.Exit(withBin(m.Run)) }

func withBin(run func() int) int {
	var err error
	if bin, err = os.MkdirTemp("", "raftlock-bin"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(bin) }()
	return run()
}

func build(t *testing.T) (dir string) {
	t.Helper()
	if err := programs(); err != nil {
		t.Fatal(err)
	}
	return bin
}

func boot(t *testing.T) *host {
	t.Helper()
	tree, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	cmd := exec.Command("testdata/boot.sh", tree, build(t))
	cmd.Stdout, cmd.Stderr = &said, &said
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // its end is the test's doing, or is noticed by it
		close(ended)
	}()
	h := &host{t: t}
	t.Cleanup(func() {
		if t.Failed() && h.pid != 0 {
			log, _ := h.run("cat", "/run/agent.log")
			t.Logf("the agent:\n%s", log)
		}
		// unshare kills systemd with itself, and systemd's end is everybody's.
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		<-ended
		h.until("its processes end", h.ended)
		if out, err := exec.Command("testdata/boot.sh", tree, bin, "sweep").CombinedOutput(); err != nil {
			t.Errorf("remove its control groups: %v: %s", err, out)
		}
		if t.Failed() {
			t.Logf("systemd:\n%s", said.String())
		}
	})
	h.until("systemd boots", func() error {
		select {
		case <-ended:
			t.Fatalf("it ended")
		default:
		}
		children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", cmd.Process.Pid))
		if err != nil {
			return err
		}
		if h.pid, err = strconv.Atoi(strings.TrimSpace(string(children))); err != nil {
			return err
		}
		_, err = h.run("systemctl", "is-active", "raftlock.service")
		return err
	})
	return h
}

// ended is nil when systemd has: the first process of a PID namespace ends last.
// Whoever inherited it may leave it a zombie.
func (h *host) ended() error {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", h.pid))
	if err != nil || bytes.Contains(text, []byte(") Z ")) {
		return nil
	}
	return fmt.Errorf("%s", text)
}

func (h *host) until(what string, ask func() error) {
	h.t.Helper()
	over := time.After(patience)
	for {
		err := ask()
		if err == nil {
			return
		}
		select {
		case <-over:
			h.t.Fatalf("not in time: %s: %v", what, err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func (h *host) command(args ...string) *exec.Cmd {
	return exec.Command("nsenter", append([]string{"--target", strconv.Itoa(h.pid), "--all", "--"}, args...)...)
}

// run is for what must end: it tells what was said, and how it ended.
func (h *host) run(args ...string) (string, error) {
	out, err := h.command(args...).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out)), err
}

func (h *host) must(args ...string) string {
	h.t.Helper()
	out, err := h.run(args...)
	if err != nil {
		h.t.Fatal(err)
	}
	return out
}

// show is one property of the agent's unit.
func (h *host) show(property string) string {
	h.t.Helper()
	return h.must("systemctl", "show", "--value", "--property="+property, "raftlock.service")
}

// as runs a command as a user who is no more than a member of a group.
func as(group string, args ...string) []string {
	return append([]string{"setpriv", "--reuid=nobody", "--regid=nogroup", "--groups=" + group}, args...)
}

// once connects to the application socket, asks once and wants an answer.
func (h *host) once() error {
	c, err := net.Dial("unix", fmt.Sprintf("/proc/%d/root/run/raftlock.sock", h.pid))
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	if _, err := io.WriteString(c, "GET /cluster/info HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"); err != nil {
		return err
	}
	all, err := io.ReadAll(c)
	if err == nil && !bytes.HasPrefix(all, []byte("HTTP/1.1 ")) {
		err = fmt.Errorf("answered %q", all)
	}
	return err
}

// hammer connects again and again until the end, and tells how often and what
// the slowest took.
func (h *host) hammer() (end func() (served int, slowest time.Duration)) {
	over := make(chan struct{})
	var mu sync.Mutex
	var served int
	var slowest time.Duration
	var clients sync.WaitGroup
	for range 4 {
		clients.Go(func() {
			for {
				select {
				case <-over:
					return
				default:
				}
				began := time.Now()
				if err := h.once(); err != nil {
					h.t.Errorf("a connection was not served: %v", err)
				}
				mu.Lock()
				served, slowest = served+1, max(slowest, time.Since(began))
				mu.Unlock()
			}
		})
	}
	return func() (int, time.Duration) {
		close(over)
		clients.Wait()
		return served, slowest
	}
}

// The installed units on a systemd of their own.
func TestAgentUnderSystemd(t *testing.T) {
	if !needs.Root(t, "no systemd is booted, and the units are checked by systemd-analyze alone") {
		return
	}
	needs.Programs(t, needs.Systemd...)
	h := boot(t)
	h.until("the agent leads, and says so", func() error {
		if got := h.show("StatusText"); got != "leader, 0 sessions" {
			return errors.New(got)
		}
		return nil
	})
	h.until("it serves", func() error {
		_, err := h.run("raftlock", "status", "--want", "serving")
		return err
	})
	t.Run("files", h.files)
	t.Run("sandbox", h.sandbox)
	t.Run("restart", h.restart)
	t.Run("watchdog", h.watchdog)
	t.Run("stop", h.stop)
}

func (h *host) files(t *testing.T) {
	for path, want := range map[string]string{
		"/run/raftlock.sock":       "root raftlock 660",
		"/run/raftlock-admin.sock": "root root 600",
		"/var/lib/raftlock":        "raftlock raftlock 700",
	} {
		if got := h.must("stat", "--format=%U %G %a", path); got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
	if out, err := h.run(as("raftlock", "raftlock", "status")...); err != nil {
		t.Errorf("a member of the group: %v\n%s", err, out)
	}
	if _, err := h.run(as("nogroup", "raftlock", "status")...); err == nil {
		t.Error("a stranger may use the application socket")
	}
	// Nobody holds it, which only the agent can know.
	if out, err := h.run("raftlock", "admin", "force-release", "nobodys"); err != nil && !strings.Contains(err.Error(), "nobodys") {
		t.Errorf("root at the administrator's socket: %v %s", err, out)
	}
	if _, err := h.run(as("raftlock", "raftlock", "admin", "force-release", "nobodys")...); err == nil || !strings.Contains(err.Error(), "permission denied") {
		t.Errorf("a member of the group at the administrator's socket: %v", err)
	}
}

// The sandbox leaves what callers are known by.
func (h *host) sandbox(t *testing.T) {
	h.must("systemctl", "start", "sandbox.service")
	lines := strings.Split(h.must("cat", "/run/sandbox.log"), "\n")
	if len(lines) != 2 || !strings.HasPrefix(lines[0], "1 (systemd) ") || len(lines[1]) != 36 {
		t.Errorf("it reads %q", lines)
	}
	log := h.must("cat", "/run/agent.log")
	for _, want := range []string{"kernel.peer_pidfd=true", "kernel.pidfd=true"} {
		if !strings.Contains(log, want) {
			t.Errorf("the agent does not say %s", want)
		}
	}
}

// hold takes a lock in a process of another user, until the test ends.
func (h *host) hold(t *testing.T, lock string) {
	t.Helper()
	cmd := h.command(as("raftlock", "raftlock", "run", "--ttl", "30s", lock, "--", "sleep", "600")...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	h.until("the lock is held", func() error { _, err := h.token(lock); return err })
}

func (h *host) token(lock string) (string, error) {
	out, err := h.run("raftlock", "get", "--json", lock)
	if err != nil {
		return "", err
	}
	_, rest, ok := strings.Cut(out, `"token": `)
	if !ok {
		return "", fmt.Errorf("no token in %s", out)
	}
	token, _, _ := strings.Cut(rest, ",")
	if token == "0" {
		return "", errors.New("nobody holds it")
	}
	return token, nil
}

// Nobody who connects while the agent restarts is turned away, and who holds
// goes on holding.
func (h *host) restart(t *testing.T) {
	h.hold(t, "kept")
	before, err := h.token("kept")
	if err != nil {
		t.Fatal(err)
	}
	end := h.hammer()
	const restarts = 3
	var took time.Duration
	for range restarts {
		began := time.Now()
		h.must("systemctl", "restart", "raftlock.service")
		took = max(took, time.Since(began))
	}
	served, slowest := end()
	t.Logf("%d restarts, of %v at most: %d connections, all served, the slowest in %v",
		restarts, took.Round(time.Millisecond), served, slowest.Round(time.Millisecond))
	h.until("the session is resumed", func() error {
		if got := h.show("StatusText"); !strings.HasSuffix(got, ", 1 session") {
			return errors.New(got)
		}
		return nil
	})
	if after, err := h.token("kept"); err != nil || after != before {
		t.Errorf("token %s after a restart, %s before: %v", after, before, err)
	}
}

// An agent that stands still is killed by its watchdog and started again.
func (h *host) watchdog(t *testing.T) {
	h.hold(t, "watched")
	began := time.Now()
	h.must("kill", "-STOP", h.show("MainPID"))
	h.until("it is started again", func() error {
		if n := h.show("NRestarts"); n != "1" {
			return fmt.Errorf("%s restarts", n)
		}
		return nil
	})
	h.until("it leads again", func() error {
		if got := h.show("StatusText"); !strings.HasPrefix(got, "leader, ") {
			return errors.New(got)
		}
		return nil
	})
	t.Logf("stopped, killed, and leading again after %v", time.Since(began).Round(time.Millisecond))
	if log := h.must("cat", "/run/agent.log"); !strings.Contains(log, "SIGABRT") || !strings.Contains(log, "goroutine ") {
		t.Error("it left no stacks")
	}
	if _, err := h.token("watched"); err != nil {
		t.Errorf("what was held: %v", err)
	}
}

func (h *host) stop(t *testing.T) {
	h.must("systemctl", "stop", "raftlock.socket", "raftlock-admin.socket", "raftlock.service")
	if got := h.show("Result"); got != "success" {
		t.Errorf("stopped with %s", got)
	}
	for _, path := range []string{"/run/raftlock.sock", "/run/raftlock-admin.sock"} {
		if _, err := h.run("stat", path); err == nil {
			t.Errorf("%s is left behind", path)
		}
	}
}
