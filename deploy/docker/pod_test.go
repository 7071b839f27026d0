package docker

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	raftlock "github.com/raftlock/raftlock/sdk/go"
)

// socketEnv makes this binary the application of a pod, with that socket.
const socketEnv = "RAFTLOCK_POD_SOCKET"

func TestMain(m *testing.M) {
	if socket := os.Getenv(socketEnv); socket != "" {
		os.Exit(applicationMain(socket))
	}
	os.Exit(withOut(m.Run))
}

func withOut(run func() int) int {
	dir, err := os.MkdirTemp("", "raftlock-image")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	source, out = filepath.Join(dir, "source"), filepath.Join(dir, "out")
	for _, dir := range []string{source, out} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return run()
}

// applicationMain holds a lock until it is killed.
func applicationMain(socket string) int {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	s, err := raftlock.NewSession(ctx, raftlock.WithSocket(socket), raftlock.WithTTL(30*time.Second))
	if err == nil {
		_, err = s.Lock(ctx, "pod")
	}
	if err != nil {
		fmt.Println("failed:", err)
		return 1
	}
	fmt.Println("holding as", os.Getpid())
	select {}
}

// application starts this binary as the other container of the pod: with PID
// and mount namespaces of its own, and the socket's folder mounted read-only. It
// returns what kills it, as its first process.
func application(t *testing.T, folder string) (kill func()) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	at := t.TempDir()
	const script = `set -e
mount --bind "$1" "$2"
mount -o remount,bind,ro "$2"
if touch "$2/x" 2>/dev/null; then echo "failed: the folder can be written to"; exit 1; fi
exec "$3"`
	cmd := exec.Command("unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc", "--",
		"sh", "-c", script, "application", folder, at, exe)
	cmd.Env = append(os.Environ(), socketEnv+"="+filepath.Join(at, "raftlock.sock"))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill = func() {
		children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", cmd.Process.Pid))
		var pid int
		if err == nil {
			_, err = fmt.Sscan(string(children), &pid)
		}
		if err == nil {
			err = syscall.Kill(pid, unix.SIGKILL)
		}
		if err != nil {
			t.Errorf("kill the application: %v", err)
		}
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || line != "holding as 1\n" {
		t.Fatalf("the application says %q: %v", line, err)
	}
	return kill
}

// A pod: the agent in one container, the application in another, a folder with
// the socket between them. The agent sees none of the application's processes,
// and learns of its death from the kernel all the same.
func TestPodFreesAtDeath(t *testing.T) {
	if !asRoot(t) {
		return
	}
	i := build(t)
	c := i.run(t, alone...)
	c.until("the agent serves", func() error { _, err := c.exec(i.healthcheck...); return err })
	// The volume, as the node sees it.
	folder := filepath.Join(i.root, "run/raftlock")

	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	s, err := raftlock.NewSession(ctx, raftlock.WithSocket(filepath.Join(folder, "raftlock.sock")))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close(ctx) }()
	for range 5 {
		kill := application(t, folder)
		if out, err := c.exec("/usr/bin/raftlock", "get", "pod"); err != nil || !strings.Contains(out, "pod") {
			t.Fatalf("%v: %s", err, out)
		}
		granted := make(chan time.Time, 1)
		go func() {
			if l, err := s.Lock(ctx, "pod"); err != nil {
				t.Errorf("the next: %v", err)
			} else {
				defer func() { _ = l.Unlock(ctx) }()
			}
			granted <- time.Now()
		}()
		c.until("it waits", func() error {
			out, err := c.exec("/usr/bin/raftlock", "get", "--json", "pod")
			if err == nil && !strings.Contains(out, `"waiters": 1`) {
				err = fmt.Errorf("%s", out)
			}
			return err
		})
		began := time.Now()
		kill()
		t.Logf("killed in its own PID namespace: the next holds after %v", (<-granted).Sub(began).Round(10*time.Microsecond))
	}
}
