package systemd

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/raftlock/raftlock/internal/needs"
)

var units = []string{"raftlock.service", "raftlock.socket", "raftlock-admin.socket"}

// copied are the units in a directory of their own, with a program that exists.
func copied(t *testing.T, program string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for _, unit := range units {
		text, err := os.ReadFile(unit)
		if err != nil {
			t.Fatal(err)
		}
		text = bytes.ReplaceAll(text, []byte("/usr/bin/raftlock-sidecar"), []byte(program))
		if err := os.WriteFile(filepath.Join(dir, unit), text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// tool runs a program of systemd's.
func tool(t *testing.T, dir string, name string, args ...string) (out string, err error) {
	t.Helper()
	needs.Programs(t, name)
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	all, err := cmd.CombinedOutput()
	return string(all), err
}

func TestUnitsAreUnderstood(t *testing.T) {
	dir := copied(t, "/bin/true")
	for _, unit := range units {
		// What is wrong with a line is a warning only: nothing may be said.
		if out, err := tool(t, dir, "systemd-analyze", "verify", "./"+unit); err != nil || out != "" {
			t.Errorf("systemd-analyze verify %s: %v\n%s", unit, err, out)
		}
	}
}

// The least that systemd-analyze calls OK is 2.0 or lower; what is left is the
// network, and the processes of others, which the agent is there to know.
func TestUnitIsConfined(t *testing.T) {
	out, err := tool(t, copied(t, "/bin/true"), "systemd-analyze", "security", "--offline=true", "--threshold=20", "./raftlock.service")
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if err != nil {
		t.Errorf("systemd-analyze security: %v\n%s", err, out)
	}
	t.Log(lines[len(lines)-1])
}
