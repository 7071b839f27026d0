// Package needs tells what a test lacks on its host, in one line that says how
// to get it. It exists so that whoever runs the tests without systemd reads the
// name of a package, and not what a shell makes of a program that is not there;
// and so that a part that takes root is left out nowhere but where somebody
// develops.
//
// It exports Programs and Root, for tests, and has no goroutine.
package needs

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// debian are the packages that have what tests run, by program.
var debian = map[string]string{
	"curl":                    "curl",
	"ip":                      "iproute2",
	"nsenter":                 "util-linux",
	"setpriv":                 "util-linux",
	"unshare":                 "util-linux",
	systemd:                   "systemd",
	"systemctl":               "systemd",
	"systemd-analyze":         "systemd",
	"systemd-socket-activate": "systemd",
	"systemd-sysusers":        "systemd",
}

// systemd lies in nobody's path.
const systemd = "/lib/systemd/systemd"

// Systemd are the programs of a systemd that is booted, and what boots it.
var Systemd = []string{systemd, "systemctl", "systemd-sysusers", "unshare", "nsenter", "setpriv", "ip"}

// Programs fails the test if one of the programs is not on this host.
func Programs(t testing.TB, programs ...string) {
	t.Helper()
	if said := lacking(programs, exec.LookPath); said != "" {
		t.Fatal(said)
	}
}

func lacking(programs []string, find func(string) (string, error)) string {
	var missing, packages []string
	for _, program := range programs {
		if _, err := find(program); err != nil {
			missing = append(missing, program)
			packages = append(packages, debian[program])
		}
	}
	if len(missing) == 0 {
		return ""
	}
	slices.Sort(packages)
	return "not on this host: " + strings.Join(missing, ", ") + ". On Debian: apt-get install " + strings.Join(slices.Compact(packages), " ")
}

// Root reports whether the test may do what takes root. Without it, a
// developer's run goes on and says what is left out; in CI, whose word is taken
// for everything, that is a failure.
func Root(t testing.TB, leftOut string) bool {
	t.Helper()
	return may(t, os.Getuid(), os.Getenv("CI"), leftOut)
}

// log is what may needs of a test.
type log interface {
	Helper()
	Logf(format string, args ...any)
	Errorf(format string, args ...any)
}

func may(t log, uid int, ci, leftOut string) bool {
	t.Helper()
	switch {
	case uid == 0:
		return true
	case ci != "" && ci != "false" && ci != "0":
		t.Errorf("not root, and CI is set: %s. Run it as root, or unset CI", leftOut)
	default:
		t.Logf("not root: %s", leftOut)
	}
	return false
}
