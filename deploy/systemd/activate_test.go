package systemd

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/raftlock/raftlock/internal/needs"
)

// systemd-socket-activate hands its socket to the program at the first
// connection, as a socket unit does.
func TestSocketActivate(t *testing.T) {
	needs.Programs(t, "systemd-socket-activate")
	dir, bin := t.TempDir(), build(t)
	path := filepath.Join(dir, "app.sock")
	cmd := exec.Command("systemd-socket-activate", "--listen="+path, "--fdname=app",
		filepath.Join(bin, "raftlock-sidecar"), "--dev", "--dev-dir", filepath.Join(dir, "dev"), "--gossip-port", "0", "--peer-port", "0")
	cmd.Env = append(os.Environ(), "RAFTLOCK_NAME=activated")
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	over := time.After(patience)
	for err := errors.New("not asked"); err != nil; {
		select {
		case <-over:
			said, _ := os.ReadFile(log.Name())
			t.Fatalf("%v\n%s", err, said)
		case <-time.After(20 * time.Millisecond):
		}
		if _, err = net.Dial("unix", path); err == nil {
			var out []byte
			if out, err = exec.Command(filepath.Join(bin, "raftlock"), "--socket", path, "status").CombinedOutput(); err != nil {
				err = fmt.Errorf("%w: %s", err, out)
			}
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "dev", "raftlock.sock")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it made a socket of its own as well: %v", err)
	}
}
