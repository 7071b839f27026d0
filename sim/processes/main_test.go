package processes

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The environment tells this binary which part it plays.
const (
	partEnv = "RAFTLOCK_PROCESSES_PART"
	thenEnv = "RAFTLOCK_PROCESSES_THEN" // and then, for partInit
	dirEnv  = "RAFTLOCK_PROCESSES_DIR"

	partTests       = "tests"       // in the run's own network namespace
	partApplication = "application" // does what it is told over a pipe
	partInit        = "init"        // becomes the first process of a PID namespace
)

func TestMain(m *testing.M) {
	var code int
	switch os.Getenv(partEnv) {
	case partApplication:
		code = applicationMain()
	case partInit:
		code = initMain()
	case partTests:
		code = testsMain(m)
	default:
		code = outerMain()
	}
	os.Exit(code)
}

// outerMain runs this binary again in a network namespace of its own, and
// removes what that leaves.
func outerMain() int {
	dir, remove, err := runDir()
	if err != nil {
		return complain(err)
	}
	defer remove()
	exe, err := os.Executable()
	if err != nil {
		return complain(err)
	}
	// The child dies with the thread that starts it.
	runtime.LockOSThread()
	cmd := exec.Command(exe, os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), partEnv+"="+partTests, dirEnv+"="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET, Pdeathsig: unix.SIGKILL}
	if uid, gid := os.Getuid(), os.Getgid(); uid != 0 {
		// Who is not root here is root of a user namespace.
		cmd.SysProcAttr.Cloneflags |= unix.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: uid, Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: gid, Size: 1}}
	}
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, unix.SIGINT, unix.SIGTERM, unix.SIGQUIT)
	if err := cmd.Start(); err != nil {
		return complain(fmt.Errorf("make a network namespace (this needs root, or a kernel that lets users have namespaces): %w", err))
	}
	go func() {
		for s := range signals {
			_ = cmd.Process.Signal(s)
		}
	}()
	err = cmd.Wait()
	signal.Stop(signals)
	close(signals)
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		return max(exit.ExitCode(), 1)
	case err != nil:
		return complain(err)
	}
	return 0
}

// runDir is where the run keeps everything; its path is short, since a
// socket's path has a bound.
func runDir() (dir string, remove func(), err error) {
	if keep := os.Getenv("RAFTLOCK_KEEP"); keep != "" {
		if keep, err = filepath.Abs(keep); err == nil {
			err = os.MkdirAll(keep, 0o700)
		}
		if err == nil {
			dir, err = os.MkdirTemp(keep, "rl")
		}
		return dir, func() {}, err
	}
	dir, err = os.MkdirTemp("", "rl")
	return dir, func() { _ = os.RemoveAll(dir) }, err
}

func complain(err error) int {
	fmt.Fprintln(os.Stderr, "sim/processes:", err)
	return 1
}

// testsMain runs the tests, in the namespace.
func testsMain(m *testing.M) int {
	home = newThread()
	defer home.end()
	if err := home.run("ip", "link", "set", "lo", "up"); err != nil {
		return complain(err)
	}
	code := m.Run()
	if shared != nil {
		shared.end()
	}
	return code
}

// initMain is the first process of a PID namespace: it gives that its own
// /proc and becomes the program that its arguments name.
func initMain() int {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return complain(fmt.Errorf("keep mounts to oneself: %w", err))
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return complain(fmt.Errorf("mount /proc: %w", err))
	}
	if err := os.Setenv(partEnv, os.Getenv(thenEnv)); err != nil {
		return complain(err)
	}
	return complain(unix.Exec(os.Args[1], os.Args[1:], os.Environ()))
}

// runPath is a path in the run's directory.
func runPath(elem ...string) string {
	return filepath.Join(append([]string{os.Getenv(dirEnv)}, elem...)...)
}

// number reads a variable of the long form.
func number(t testing.TB, name string, otherwise int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("%s=%q: give a number", name, text)
	}
	return n
}

// span reads a duration of the long form.
func span(t testing.TB, name string, otherwise time.Duration) time.Duration {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 {
		t.Fatalf("%s=%q: give a time, such as 1m", name, text)
	}
	return d
}

func trials(t testing.TB, otherwise int) int { return number(t, "RAFTLOCK_TRIALS", otherwise) }

// figure prints a measurement, also when the tests are quiet: one line each.
func figure(t testing.TB, format string, args ...any) {
	t.Helper()
	fmt.Printf("figure %s: %s\n", t.Name(), fmt.Sprintf(format, args...))
}

// clock reads CLOCK_BOOTTIME, which every process of the host shares.
func clock() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		panic(err)
	}
	return time.Duration(ts.Nano())
}

// programs builds what ships, once a run.
var programs = sync.OnceValues(func() (string, error) {
	dir := runPath("bin")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	for name, path := range map[string]string{agentProgram: "cmd/sidecar", toolProgram: "cmd/raftlock"} {
		if err := noteFiles(filepath.Join("..", "..", path)); err != nil {
			return "", err
		}
		cmd := exec.Command("go", "build", "-buildvcs=false", "-tags", os.Getenv("RAFTLOCK_TAGS"), "-o", filepath.Join(dir, name), "./"+path)
		cmd.Dir = filepath.Join("..", "..")
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("build %s: %w\n%s", path, err, out)
		}
	}
	return dir, nil
})

const (
	agentProgram = "raftlock-sidecar"
	toolProgram  = "raftlock"
)

// noteFiles looks at the sources of a program, so that go test knows that a
// kept result is of no use after they changed.
func noteFiles(dir string) error {
	return filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err == nil {
			_, err = os.Stat(path)
		}
		return err
	})
}

func program(t testing.TB, name string) string {
	t.Helper()
	dir, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, name)
}
