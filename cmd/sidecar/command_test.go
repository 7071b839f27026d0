package main

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"github.com/raftlock/raftlock/agent/daemon"
)

func parse(t *testing.T, environment map[string]string, args ...string) (*flags, *pflag.FlagSet, error) {
	t.Helper()
	f := newFlags()
	s := pflag.NewFlagSet("test", pflag.ContinueOnError)
	f.register(s)
	if err := s.Parse(args); err != nil {
		return nil, nil, err
	}
	_, err := load(s, func(name string) (string, bool) {
		v, ok := environment[name]
		return v, ok
	}, f.from, "")
	return f, s, err
}

func TestFlagsCountMoreThanVariables(t *testing.T) {
	f, _, err := parse(t, map[string]string{
		"RAFTLOCK_NAME": "variable", "RAFTLOCK_DATA_DIR": "/v", "RAFTLOCK_JOIN": "a,b:1",
		"RAFTLOCK_EXPECT": "3", "RAFTLOCK_ELECTION_TIMEOUT": "2s", "RAFTLOCK_INSECURE_PLAINTEXT": "true",
		"RAFTLOCK_ROLE": "", // empty counts as absent
	}, "--name", "flag")
	if err != nil {
		t.Fatal(err)
	}
	o := f.opt
	if o.Name != "flag" || o.DataDir != "/v" || strings.Join(o.Join, " ") != "a b:1" || o.Expect != 3 ||
		o.ElectionTimeout != 2*time.Second || !o.InsecurePlaintext || o.Role != daemon.RoleAuto {
		t.Errorf("%+v", o)
	}
}

func TestBadVariablesAreNamedAtOnce(t *testing.T) {
	_, _, err := parse(t, map[string]string{"RAFTLOCK_EXPECT": "five", "RAFTLOCK_ELECTION_TIMEOUT": "1"})
	for _, want := range []string{`RAFTLOCK_EXPECT="five"`, `RAFTLOCK_ELECTION_TIMEOUT="1"`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not name %s", err, want)
		}
	}
}

// What is wrong is told at once, flags of this command and those of the daemon.
func TestImpossibleCombinationsAreRefused(t *testing.T) {
	var out bytes.Buffer
	cmd := bare()
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	cmd.SetArgs([]string{"--bind", "10.0.0.1", "--expect", "2", "--log-level", "loud", "--log-format", "xml"})
	if code := execute(context.Background(), cmd); code != 64 {
		t.Errorf("exit status %d", code)
	}
	lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
	if lines[0] != "raftlock-sidecar:" || lines[len(lines)-1] != "raftlock-sidecar --help lists the flags" {
		t.Errorf("%q", lines)
	}
	for _, want := range []string{"--insecure-plaintext", "--expect 2", "--log-level", "--log-format"} {
		if !slices.ContainsFunc(lines, func(l string) bool { return strings.HasPrefix(l, "  ") && strings.Contains(l, want) }) {
			t.Errorf("%q does not name %s in a line of its own", lines, want)
		}
	}
}

func TestExitStatus(t *testing.T) {
	file := t.TempDir() + "/file"
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		args []string
		want int
		says string
	}{
		{[]string{"--bogus"}, 64, "--bogus"},
		{[]string{"frob"}, 64, "frob"},
		{[]string{"--dev-dir", "x"}, 64, "--dev-dir"},
		{[]string{"--dev", "--dev-dir", file}, 1, file},
		{[]string{"--expect", "1", "--data-dir", file}, 1, file},
	} {
		var out bytes.Buffer
		cmd := bare()
		cmd.SetOut(&out)
		cmd.SetErr(&out)
		cmd.SetArgs(c.args)
		if code := execute(context.Background(), cmd); code != c.want || !strings.Contains(out.String(), c.says) ||
			strings.Contains(out.String(), "--help lists") != (c.want == 64) {
			t.Errorf("%q: %d, %q", c.args, code, out.String())
		}
	}
}

func TestVersion(t *testing.T) {
	commit := []debug.BuildSetting{{Key: "vcs.revision", Value: "abc"}}
	for _, c := range []struct {
		release string
		info    *debug.BuildInfo
		want    string
	}{
		{"1.2", &debug.BuildInfo{Main: debug.Module{Version: "v1"}, Settings: commit}, "1.2"},
		{"", &debug.BuildInfo{Main: debug.Module{Version: "v1"}, Settings: commit}, "v1"},
		{"", &debug.BuildInfo{Main: debug.Module{Version: "(devel)"}, Settings: commit}, "abc"},
		{"", nil, "devel"},
	} {
		if v, _ := versionOf(c.release, c.info); v != c.want {
			t.Errorf("%q, want %q", v, c.want)
		}
	}
	said := map[string]string{}
	for _, arg := range []string{"version", "--version"} {
		var out bytes.Buffer
		cmd := bare()
		cmd.SetOut(&out)
		cmd.SetArgs([]string{arg})
		if code := execute(context.Background(), cmd); code != 0 || out.Len() == 0 {
			t.Errorf("%s: %d", arg, code)
		}
		said[arg] = out.String()
	}
	if said["version"] != said["--version"] {
		t.Errorf("%q", said)
	}
}

// What to type is said once there is somebody to hear it.
func TestDevSaysWhatToTypeOnceItServes(t *testing.T) {
	dir, err := os.MkdirTemp("", "rl") // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	read, write := io.Pipe()
	cmd := bare()
	cmd.SetOut(write)
	var log bytes.Buffer // read when it has ended
	cmd.SetErr(&log)
	cmd.SetArgs([]string{"--dev", "--dev-dir", dir, "--gossip-port", "0", "--peer-port", "0"})
	code := make(chan int, 1)
	go func() { code <- execute(ctx, cmd); _ = write.Close() }()
	said := bufio.NewScanner(read)
	for said.Scan() && !strings.Contains(said.Text(), "RAFTLOCK_ADMIN_SOCKET="+dir+"/admin.sock") {
	}
	if conn, err := net.Dial("unix", dir+"/raftlock.sock"); err != nil {
		t.Error(err)
	} else {
		_ = conn.Close()
	}
	cancel()
	for said.Scan() {
	}
	if got := <-code; got != 0 {
		t.Errorf("exit status %d: %s", got, log.String())
	}
}

func TestDevKeepsWhatWasGiven(t *testing.T) {
	dir := t.TempDir()
	f, s, err := parse(t, nil, "--dev", "--dev-dir", dir, "--socket", "/tmp/mine.sock")
	if err != nil {
		t.Fatal(err)
	}
	if err := f.resolve(s); err != nil {
		t.Fatal(err)
	}
	o := f.opt
	if o.Socket != "/tmp/mine.sock" || o.DataDir != dir+"/data" || o.Expect != 1 || !o.Dev {
		t.Errorf("%+v", o)
	}
	if o.GossipPort != 0 || o.PeerPort != 0 {
		t.Errorf("ports that another agent may have: %+v", o)
	}
	if f, s, err = parse(t, nil, "--dev-dir", dir); err != nil {
		t.Fatal(err)
	}
	if err := f.resolve(s); err == nil {
		t.Error("--dev-dir without --dev is taken")
	}
}

// What a shell exports for one agent's clients does not name another agent's sockets.
func TestDevDirIsNoOtherAgents(t *testing.T) {
	dir := t.TempDir()
	exported := map[string]string{"RAFTLOCK_SOCKET": "/first/raftlock.sock", "RAFTLOCK_ADMIN_SOCKET": "/first/admin.sock"}
	for _, c := range []struct {
		name           string
		variables      map[string]string
		args           []string
		socket, adminS string
	}{
		{"a folder is given", exported, []string{"--dev-dir", dir}, dir + "/raftlock.sock", dir + "/admin.sock"},
		{"a socket too", exported, []string{"--dev-dir", dir, "--socket", "/s"}, "/s", dir + "/admin.sock"},
		{"no folder", exported, nil, "/first/raftlock.sock", "/first/admin.sock"},
		{"all by variables", map[string]string{"RAFTLOCK_DEV_DIR": dir, "RAFTLOCK_SOCKET": "/s"}, nil, "/s", dir + "/admin.sock"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, s, err := parse(t, c.variables, append([]string{"--dev"}, c.args...)...)
			if err == nil {
				err = f.resolve(s)
			}
			if err != nil || f.opt.Socket != c.socket || f.opt.AdminSocket != c.adminS {
				t.Errorf("%v, %q, %q", err, f.opt.Socket, f.opt.AdminSocket)
			}
		})
	}
}

func TestHelpTellsWhatEachTimingSets(t *testing.T) {
	_, s, err := parse(t, nil)
	if err != nil {
		t.Fatal(err)
	}
	for flag, raft := range map[string]string{
		"election-timeout": "ElectionTimeout", "heartbeat-interval": "HeartbeatTimeout", "snapshot-interval": "SnapshotInterval",
	} {
		if !strings.Contains(s.Lookup(flag).Usage, raft) {
			t.Errorf("--%s does not name Raft's %s", flag, raft)
		}
	}
}
