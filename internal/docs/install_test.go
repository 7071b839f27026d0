package docs

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var image = regexp.MustCompile(`!\[[^]]*\]\(([^)]+)\)`)

// shown are the pictures of the pages that are installed.
func shown(t *testing.T) (all []string) {
	t.Helper()
	for _, page := range pages(t) {
		if !strings.HasPrefix(page, "docs/") {
			continue
		}
		for _, m := range image.FindAllStringSubmatch(read(t, page), -1) {
			all = append(all, m[1])
		}
	}
	if len(all) == 0 {
		t.Error("no page shows a picture: is the pattern still right?")
	}
	return all
}

var unitName = regexp.MustCompile(`raftlock[\w-]*\.(?:service|socket)`)

// What the page of installing runs as root puts everything in its place, here
// below a folder; and the units that it tells to enable are among that.
func TestInstallScript(t *testing.T) {
	to := t.TempDir()
	install := exec.Command(filepath.Join(root, "deploy", "install.sh"))
	install.Env = append(os.Environ(), "BIN="+bin, "DESTDIR="+to)
	if out, err := ends(install); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, path := range []string{"usr/bin/raftlock-sidecar", "usr/bin/raftlock", "usr/lib/sysusers.d/raftlock.conf"} {
		if _, err := os.Stat(filepath.Join(to, path)); err != nil {
			t.Error(err)
		}
	}
	// What the operator is told to write needs its folder, and to read its page.
	if d, err := os.Stat(filepath.Join(to, "etc/raftlock")); err != nil || d.Mode() != fs.ModeDir|0o755 {
		t.Errorf("/etc/raftlock: %v, %v", d, err)
	}
	_, page, _ := strings.Cut(read(t, "deploy/systemd/raftlock.service"), "Documentation=file://")
	page, _, _ = strings.Cut(page, "\n")
	if p, err := os.Stat(filepath.Join(to, page)); err != nil || !p.Mode().IsRegular() {
		t.Errorf("the documentation of the service, %q: %v", page, err)
	}
	for _, name := range shown(t) {
		if _, err := os.Stat(filepath.Join(to, "usr/share/doc/raftlock", name)); err != nil {
			t.Errorf("a page shows %s: %v", name, err)
		}
	}
	n := 0
	for _, b := range blocks("docs/install.md", read(t, "docs/install.md")) {
		for line := range strings.Lines(b.text) {
			for _, unit := range unitName.FindAllString(line, -1) {
				n++
				if _, err := os.Stat(filepath.Join(to, "usr/lib/systemd/system", unit)); err != nil {
					t.Errorf("%s: %v", b, err)
				}
			}
		}
	}
	if n < 3 {
		t.Errorf("only %d units found", n)
	}
}
