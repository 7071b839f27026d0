package docker

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/raftlock/raftlock/internal/needs"
)

// patience bounds what should take a moment, on a host that is busy.
const patience = time.Minute

// container is the image at work.
type container struct {
	t     *testing.T
	image *image
	pid   int // of its first process, here
	said  *bytes.Buffer
	done  chan error
}

// run starts the image's entry point, with variables added.
func (i *image) run(t *testing.T, variables ...string) *container {
	t.Helper()
	c := &container{t: t, image: i, said: &bytes.Buffer{}, done: make(chan error, 1)}
	args := append([]string{i.root, i.user, strings.Join(i.volumes, ",")}, i.entrypoint...)
	cmd := exec.Command("testdata/container.sh", args...)
	cmd.Env = append(slices.Clone(i.environment), variables...)
	cmd.Stdout, cmd.Stderr = c.said, c.said
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		c.done <- cmd.Wait()
		close(ended)
	}()
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		<-ended
		if t.Failed() {
			t.Logf("the container:\n%s", c.said)
		}
	})
	c.until("its first process", func() (err error) {
		children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", cmd.Process.Pid))
		if err == nil {
			c.pid, err = strconv.Atoi(strings.TrimSpace(string(children)))
		}
		return err
	})
	return c
}

func (c *container) until(what string, ask func() error) {
	c.t.Helper()
	over := time.After(patience)
	for {
		err := ask()
		if err == nil {
			return
		}
		select {
		case <-over:
			c.t.Fatalf("not in time: %s: %v", what, err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// exec runs a program of the image in the container, as "docker exec" does.
func (c *container) exec(program ...string) (string, error) {
	uid, gid, _ := strings.Cut(c.image.user, ":")
	args := []string{"--target", strconv.Itoa(c.pid), "--mount", "--pid", "--net", "--ipc", "--uts", "--root", "--setuid", uid, "--setgid", gid, "--"}
	cmd := exec.Command("/usr/bin/nsenter", append(args, program...)...)
	cmd.Env = c.image.environment
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%w: %s", err, out)
	}
	return string(out), err
}

// alone are the variables of an agent that needs no others.
var alone = []string{"RAFTLOCK_NAME=alone", "RAFTLOCK_EXPECT=1", "RAFTLOCK_BIND=127.0.0.1"}

// asRoot reports whether this test can make containers.
func asRoot(t *testing.T) bool {
	t.Helper()
	if !needs.Root(t, "no chroot is made, and the image is not run") {
		return false
	}
	needs.Programs(t, "unshare", "nsenter", "setpriv", "ip")
	return true
}

// The image has what its programs need, and its user may do what they do.
func TestImageRuns(t *testing.T) {
	if !asRoot(t) {
		return
	}
	i := build(t)
	c := i.run(t, alone...)
	c.until("it is healthy by its own check", func() error {
		_, err := c.exec(i.healthcheck...)
		return err
	})
	out, err := c.exec("/usr/bin/raftlock", "status")
	if err != nil || !strings.Contains(out, "healthy:  yes") {
		t.Errorf("status: %v\n%s", err, out)
	}
	if _, err := c.exec("/usr/bin/raftlock", "run", "x", "--", "/usr/bin/raftlock", "get", "x"); err != nil {
		t.Errorf("a lock: %v", err)
	}
	if _, err := c.exec("/usr/bin/raftlock", "admin", "force-release", "nobodys"); err != nil && !strings.Contains(err.Error(), "nobodys") {
		t.Errorf("its administrator: %v", err)
	}
	t.Logf("in a chroot as %s: %s", i.user, strings.Split(out, "\n")[0])

	// "docker stop" signals the first process, and kills it after a while.
	if err := syscall.Kill(c.pid, unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-c.done:
		if err != nil {
			t.Errorf("stopped with %v", err)
		}
	case <-time.After(patience):
		t.Error("it does not stop")
	}
}

// Nothing of the image depends on what is not in it.
func TestProgramsAreStatic(t *testing.T) {
	if !asRoot(t) {
		return
	}
	i := build(t)
	var files []string
	out, err := exec.Command("find", i.root, "-type", "f", "-printf", "%P %m\n").CombinedOutput()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(out)) {
		files = append(files, strings.TrimSpace(line))
	}
	slices.Sort(files)
	if want := []string{"usr/bin/raftlock 755", "usr/bin/raftlock-sidecar 755"}; !slices.Equal(files, want) {
		t.Errorf("the image has %q, want %q", files, want)
	}
	if _, err := os.Stat(i.root + "/lib64"); !errors.Is(err, os.ErrNotExist) {
		t.Error("it has libraries")
	}
}
