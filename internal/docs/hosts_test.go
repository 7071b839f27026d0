package docs

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/raftlock/raftlock/internal/devagent"
)

// The command, or the file of settings, that pages give for each of five hosts
// makes a cluster of five, on five addresses of this one.
func TestFirstStartOnHosts(t *testing.T) {
	n := 0
	for _, page := range pages(t) {
		for _, b := range blocks(page, read(t, page)) {
			name, _ := b.mark("run by:")
			if name == "TestFirstStartOnHosts" && strings.TrimSpace(b.text) != "raftlock status" { // which each of them asks
				n++
				t.Run(b.String(), func(t *testing.T) { firstStart(t, b, n) })
			}
		}
	}
	if n == 0 {
		t.Error("no page says how to start on hosts")
	}
}

// own is what differs from host to host.
var own = regexp.MustCompile(`(bind:? 10\.0\.0\.|name: host)1( |\n)`)

func firstStart(t *testing.T, b block, n int) {
	t.Helper()
	dir, err := os.MkdirTemp("", "rlh") // short: a socket's path has a bound
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	// All of 127/8 is loopback: addresses that no other test run has.
	pid := os.Getpid()
	network := fmt.Sprintf("127.%d.%d.", 1+pid/250%250, 1+(pid+n)%250)
	var sockets []string
	for host := 1; host <= 5; host++ {
		at := func(name string) string { return filepath.Join(dir, fmt.Sprint(host, name)) }
		text := own.ReplaceAllString(b.text, fmt.Sprint("${1}", host, "${2}"))
		text = strings.ReplaceAll(text, "10.0.0.", network)
		cmd := exec.Command("bash", "-c", text)
		cmd.Env = append(os.Environ(), fmt.Sprintf("RAFTLOCK_NAME=host%d", host))
		if b.language == "yaml" {
			if err := os.WriteFile(at(".yaml"), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			cmd = exec.Command(filepath.Join(bin, "raftlock-sidecar"), "--config", at(".yaml"))
			cmd.Env = os.Environ()
		}
		cmd.Env = append(cmd.Env, "PATH="+bin+":"+os.Getenv("PATH"), "RAFTLOCK_DATA_DIR="+at("data"), "RAFTLOCK_SOCKET="+at(".sock"), "RAFTLOCK_ADMIN_SOCKET="+at("a.sock"))
		devagent.Run(t, cmd)
		sockets = append(sockets, at(".sock"))
	}
	for _, socket := range sockets {
		tool := filepath.Join(bin, "raftlock") + " --socket " + socket
		script := tool + " run --wait 60s ready -- true; until " + tool + " status; do :; done"
		if out, err := ends(exec.Command("bash", "-c", script)); err != nil || !strings.Contains(string(out), "5 voters, 5 there") {
			t.Errorf("%s: %v\n%s", b, err, out)
		}
	}
}
