package docs

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/raftlock/raftlock/internal/devagent"
)

// What pip makes of the folder can be imported, typed. Its dependencies are
// those of the environment, and are not installed again.
func TestPythonFromTheFolder(t *testing.T) {
	python, _ := devagent.Python(t, root)
	to := t.TempDir()
	install := exec.Command(python, "-m", "pip", "--quiet", "--disable-pip-version-check", "install",
		"--no-deps", "--target", to, filepath.Join(root, "sdk", "python"))
	if out, err := ends(install); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	look := exec.Command(python, "-c", "import raftlock; print(raftlock.__file__)")
	look.Env = append(look.Environ(), "PYTHONPATH="+to)
	out, err := ends(look)
	if err != nil || !strings.HasPrefix(string(out), to) {
		t.Errorf("%v\n%s", err, out)
	}
	if typed, _ := filepath.Glob(filepath.Join(to, "raftlock", "py.typed")); len(typed) == 0 {
		t.Error("it has no py.typed")
	}
}
