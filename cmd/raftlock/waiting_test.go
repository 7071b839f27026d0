package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	raftlockv1 "github.com/raftlock/raftlock/api/raftlock/v1"
)

func TestRunWithoutAnAnswer(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		reason raftlockv1.Reason
		args   []string
		says   string
	}{
		{"try, no quorum", raftlockv1.Reason_REASON_NO_QUORUM, []string{"--try"}, "no answer for 5s: no quorum; "},
		{"wait", raftlockv1.Reason_REASON_NO_LEADER, []string{"--wait", "1s"}, "still waiting after 1s: no leader; "},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			a, socket := startAgent(t)
			a.LoseReach(c.reason)
			p := start(t, socket, append(append([]string{"run"}, c.args...), "a", "--", "echo", "started")...)
			if out := p.rest(); out != "" {
				t.Errorf("started: %q", out)
			}
			p.exits(75)
			p.says(c.says)
			if strings.Contains(p.stderr.String(), "context") {
				t.Errorf("stderr %q is no text for people", p.stderr.String())
			}
		})
	}
}

// Logs are told too what is in the way.
func TestRunTellsAnObstacleThatLasts(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		spoil func(lose func(raftlockv1.Reason), leave func())
		says  string
	}{
		{"no quorum", func(lose func(raftlockv1.Reason), _ func()) { lose(raftlockv1.Reason_REASON_NO_QUORUM) }, "no quorum"},
		{"no leader", func(lose func(raftlockv1.Reason), _ func()) { lose(raftlockv1.Reason_REASON_NO_LEADER) }, "no leader"},
		{"no agent", func(_ func(raftlockv1.Reason), leave func()) { leave() }, "no agent answers"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			a, socket := startAgent(t)
			a.StrangerTakes("a")
			p := start(t, socket, "run", "a", "--", "true")
			await(t, a, "wait a")
			c.spoil(a.LoseReach, a.Close)
			p.stderr.await(patience)
			p.signal(syscall.SIGTERM)
			p.exits(143)
			p.says(`still waiting for "a": ` + c.says)
			if n := strings.Count(p.stderr.String(), "\n"); n != 1 {
				t.Errorf("%d lines: %q", n, p.stderr.String())
			}
		})
	}
}

// A socket that this user may not open is told at once.
func TestRunIsKeptOut(t *testing.T) {
	t.Parallel()
	socket := keptOut(t)
	p := ordinary(t, "--socket", socket, "run", "a", "--", "echo", "started")
	p.exits(77)
	p.says("group that owns the socket")
	if n := strings.Count(p.stderr.String(), socket); n != 1 {
		t.Errorf("the socket is named %d times: %q", n, p.stderr.String())
	}
}

// keptOut is an agent's socket that nobody but the superuser may open.
func keptOut(t *testing.T) string {
	t.Helper()
	_, socket := startAgent(t)
	if err := errors.Join(os.Chmod(filepath.Dir(socket), 0o711), os.Chmod(socket, 0)); err != nil {
		t.Fatal(err)
	}
	return socket
}

// ordinary starts the program as somebody whom modes keep out.
func ordinary(t *testing.T, args ...string) *program {
	t.Helper()
	p := prepare(t, nil, args...)
	if os.Geteuid() == 0 {
		p.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}
	p.begin()
	return p
}

// No agent is needed to see that a name is bad.
func TestRunRefusesBadNames(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"", "a\nb", "\xff", strings.Repeat("a", 513)} {
		p := start(t, t.TempDir()+"/nobody.sock", "run", name, "--", "true")
		p.exits(64)
		p.says("a lock's name")
	}
}

func TestRunWaitsForNothing(t *testing.T) {
	t.Parallel()
	a, socket := startAgent(t)
	a.StrangerTakes("a")
	p := start(t, socket, "run", "--wait", "0", "a", "--", "true")
	p.exits(75)
	p.says("still held after 0s")
}
