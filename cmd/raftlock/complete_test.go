package main

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"
)

// completed is what a shell would offer; the last word is being typed.
func completed(args ...string) string {
	_, out, _ := typed(append([]string{"__complete"}, args...)...)
	return out
}

func TestCompletionOffersLocks(t *testing.T) {
	a, socket := startAgent(t)
	for _, name := range []string{"backup/db1", "backup/db2", "other"} {
		a.StrangerTakes(name)
	}
	for _, verb := range []string{"get", "ls", "run", "acquire", "renew", "release", "admin force-release"} {
		words := append(strings.Fields(verb), "--socket", socket)
		if out := completed(append(words, "backup/")...); out != "backup/db1\nbackup/db2\n:4\n" {
			t.Errorf("%s completes %q", verb, out)
		}
		if out := completed(append(words, "other", "")...); strings.Contains(out, "other") {
			t.Errorf("%s completes a second name %q", verb, out)
		}
	}
}

func TestCompletionIsBounded(t *testing.T) {
	a, socket := startAgent(t)
	for i := range completionsMax + 5 {
		a.StrangerTakes(fmt.Sprintf("n%04d", i))
	}
	if out := completed("get", "--socket", socket, ""); strings.Count(out, "n0") != completionsMax {
		t.Errorf("%d names", strings.Count(out, "n0"))
	}
}

// Nobody at a prompt is told of agents, and nobody waits long.
func TestCompletionWithoutAnAgentIsSilent(t *testing.T) {
	mute := t.TempDir() + "/m"
	lis, err := net.Listen("unix", mute)
	if err != nil {
		t.Fatal(err)
	}
	defer lis.Close()
	for _, socket := range []string{mute + "x", mute} {
		code, out, errs := typed("__complete", "get", "--socket", socket, "")
		if code != 0 || out != ":4\n" || strings.Contains(errs, "agent") {
			t.Errorf("%d, %q, %q", code, out, errs)
		}
	}
	if completionMax > time.Second {
		t.Error("a person waits for it")
	}
}

func TestCompletionOfFlags(t *testing.T) {
	for _, c := range []struct {
		args string
		want string
	}{
		{"demo --voters", "1\n3\n5\n:4\n"},
		{"demo --dir", ":16\n"},
		{"get --socket", ":0\n"},
		{"get --timeout", ":4\n"},
		{"admin force-release --token", ":4\n"},
		{"admin force-release --admin-socket", ":0\n"},
		{"acquire --owner", ":4\n"},
		{"bench --prefix", ":4\n"},
	} {
		if out := completed(append(strings.Fields(c.args), "")...); out != c.want {
			t.Errorf("%s completes %q, want %q", c.args, out, c.want)
		}
	}
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		if code, out, errs := typed("completion", shell); code != 0 || !strings.Contains(out, "raftlock") {
			t.Errorf("%s: %d, %q", shell, code, errs)
		}
	}
	if code, _, errs := typed("completion", "tcsh"); code != 64 || !strings.Contains(errs, "tcsh") {
		t.Errorf("an unknown shell: %d, %q", code, errs)
	}
}
