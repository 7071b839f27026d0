package devagent

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"

	"golang.org/x/sys/unix"
)

// pythonVariable names an interpreter that has what the SDK depends on, for
// those who do not want one made.
const pythonVariable = "RAFTLOCK_PYTHON"

// Python gives an interpreter with what the Python SDK depends on, and the
// environment in which it finds the SDK of this tree. It makes a virtual
// environment under .cache, once; that needs python3 (3.11 is tested) and its
// package index. root is the module's folder.
func Python(t testing.TB, root string) (python string, env []string) {
	t.Helper()
	root, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	env = []string{"PYTHONPATH=" + filepath.Join(root, "sdk", "python", "src"), "PYTHONDONTWRITEBYTECODE=1"}
	if python = os.Getenv(pythonVariable); python != "" {
		return python, env
	}
	dir := filepath.Join(root, ".cache", "python-examples")
	if err := environment(root, dir); err != nil {
		t.Fatal(fmt.Errorf("a Python environment (or name an interpreter in %s): %w", pythonVariable, err))
	}
	return filepath.Join(dir, "bin", "python3"), env
}

var (
	dependencyList = regexp.MustCompile(`(?s)\ndependencies = \[(.*?)\]`)
	dependency     = regexp.MustCompile(`"([^"]+)"`)
)

// environment makes dir a virtual environment with the SDK's dependencies,
// unless it is. Packages are tested in processes of their own: one makes it, the
// others wait.
func environment(root, dir string) error {
	project, err := os.ReadFile(filepath.Join(root, "sdk", "python", "pyproject.toml"))
	if err != nil {
		return err
	}
	list := dependencyList.FindSubmatch(project)
	if list == nil {
		return fmt.Errorf("no dependencies in pyproject.toml")
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
		return err
	}
	lock, err := os.OpenFile(dir+".lock", os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = lock.Close() }()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return err
	}
	made := filepath.Join(dir, "made-for")
	if have, err := os.ReadFile(made); err == nil && bytes.Equal(have, list[1]) {
		return nil
	}
	if err := run("python3", "-m", "venv", "--clear", dir); err != nil {
		return err
	}
	install := []string{"-m", "pip", "--quiet", "--disable-pip-version-check", "install"}
	for _, m := range dependency.FindAllSubmatch(list[1], -1) {
		install = append(install, string(m[1]))
	}
	if err := run(filepath.Join(dir, "bin", "python3"), install...); err != nil {
		return err
	}
	return os.WriteFile(made, list[1], 0o600)
}

func run(name string, args ...string) error {
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %v: %w\n%s", name, args, err, out)
	}
	return nil
}
