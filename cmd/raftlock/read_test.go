package main

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"testing"

	raftlockv1 "github.com/raftlock/raftlock/api/raftlock/v1"
	raftlock "github.com/raftlock/raftlock/sdk/go"
)

// typed runs a verb in this process.
func typed(args ...string) (code int, stdout, stderr string) {
	var out, err bytes.Buffer
	code = execute(context.Background(), args, &out, &err)
	return code, out.String(), err.String()
}

func TestGet(t *testing.T) {
	a, socket := startAgent(t)
	a.StrangerTakes("a")
	a.StrangerTakes("a")
	for _, c := range []struct {
		name string
		args []string
		want string
	}{
		{"held", []string{"get", "a"}, "lock:     a\nstate:    held by stranger on fake\ntoken:    1\nttl:      0s\nwaiters:  1\n"},
		{"free", []string{"get", "b"}, "lock:     b\nstate:    free\nwaiters:  0\n"},
		{"stale", []string{"get", "--stale", "b"}, "lock:     b\nstate:    free (stale)\nwaiters:  0\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			code, out, errs := typed(append(c.args, "--socket", socket)...)
			if code != 0 || out != c.want {
				t.Errorf("%d, %q, %q; want %q", code, out, errs, c.want)
			}
		})
	}
	t.Run("json", func(t *testing.T) {
		_, out, _ := typed("get", "a", "--json", "--socket", socket)
		var info raftlock.LockInfo
		if err := json.Unmarshal([]byte(out), &info); err != nil || !info.Held || info.Token != 1 || info.Waiters != 1 {
			t.Errorf("%v: %s", err, out)
		}
	})
}

func TestLs(t *testing.T) {
	a, socket := startAgent(t)
	for _, name := range []string{"a/1", "a/2", "a/3", "b"} {
		a.StrangerTakes(name)
	}
	a.StrangerTakes("a/2")
	for _, c := range []struct {
		name string
		args []string
		want []string
	}{
		{"all", nil, []string{"a/1", "a/2", "a/3", "b"}},
		{"a prefix", []string{"a/"}, []string{"a/1", "a/2", "a/3"}},
		{"contested", []string{"--contested"}, []string{"a/2"}},
		{"an owner", []string{"--owner", "nobody"}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			args := append([]string{"ls", "--socket", socket}, c.args...)
			_, out, errs := typed(args...)
			lines := strings.Split(strings.TrimSpace(out), "\n")
			if len(lines) != len(c.want)+1 || !strings.HasPrefix(lines[0], "NAME ") {
				t.Fatalf("%q, %q", out, errs)
			}
			for i, name := range c.want {
				if !strings.HasPrefix(lines[i+1], name+" ") {
					t.Errorf("%q, want %q", lines[i+1], name)
				}
			}
			_, out, _ = typed(append(args, "--json")...)
			var locks []raftlock.LockInfo
			if err := json.Unmarshal([]byte(out), &locks); err != nil || locks == nil || len(locks) != len(c.want) {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
}

func nodes(states string) (all []*raftlockv1.Node) {
	for i, s := range states {
		all = append(all, &raftlockv1.Node{Name: "n" + string(rune('1'+i)), Role: raftlockv1.Node_ROLE_VOTER, Alive: s == '+', Leader: i == 1})
	}
	return all
}

func TestStatus(t *testing.T) {
	a, socket := startAgent(t)
	well := func() *raftlockv1.StatusResponse {
		return &raftlockv1.StatusResponse{Agent: "n1", Version: "1", ClusterId: "c", Reach: raftlockv1.Reason_REASON_OK, LeaderName: "n2",
			Term: 9, QuorumSize: 2, HasQuorum: true, Sessions: 3, Holds: 4, Waits: 1, Nodes: nodes("+++")}
	}
	for _, c := range []struct {
		name   string
		change func(*raftlockv1.StatusResponse)
		code   int
		want   []string
		// serving is the status for who wants no more than that.
		serving int
	}{
		{"well", func(*raftlockv1.StatusResponse) {}, 0, []string{"healthy:  yes\nleader:   n2 (term 9)\nagent:    n1, voter, version 1\n" +
			"quorum:   3 voters, 3 there, 2 needed: 1 more may fail\nsessions: 3 here, with 4 holds and 1 waits\n", "n2    voter, leader  yes"}, 0},
		{"a voter missing", func(s *raftlockv1.StatusResponse) { s.Nodes = nodes("++-") }, 1, []string{"degraded: 1 of 3 voters missing", "0 more may fail"}, 0},
		{"it catches up", func(s *raftlockv1.StatusResponse) { s.Behind = 4711 }, 1, []string{"degraded: this voter catches up, and lacks 4711 entries"}, 1},
		{"no quorum", func(s *raftlockv1.StatusResponse) { s.Reach, s.HasQuorum = raftlockv1.Reason_REASON_NO_QUORUM, false }, 1, []string{"no: no quorum"}, 1},
		{"no leader", func(s *raftlockv1.StatusResponse) { s.HasQuorum, s.LeaderName = false, "" }, 1, []string{"no: no leader", "none known"}, 1},
		{"no cluster", func(s *raftlockv1.StatusResponse) { s.ClusterId, s.Doing, s.HasQuorum = "", "waiting for n3", false }, 1, []string{"no: waiting for n3"}, 1},
		{"two clusters", func(s *raftlockv1.StatusResponse) { s.Doing = "sees more than one cluster" }, 1, []string{"no: sees more than one cluster"}, 0},
		{"a name that plays with terminals", func(s *raftlockv1.StatusResponse) { s.LeaderName = "\x1b[2J" }, 0, []string{"\uFFFD[2J"}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := well()
			c.change(s)
			a.SetStatus(s)
			code, out, errs := typed("status", "--socket", socket)
			for _, want := range c.want {
				if code != c.code || !strings.Contains(out, want) {
					t.Errorf("%d, %q, %q; want %d, %q", code, out, errs, c.code, want)
				}
			}
			if coded, out, _ := typed("status", "--json", "--socket", socket); coded != c.code || !json.Valid([]byte(out)) {
				t.Errorf("%d: %s", coded, out)
			}
			for want, wanted := range map[string]int{"alive": 0, "serving": c.serving, "healthy": c.code} {
				if code, _, _ := typed("status", "--want", want, "--socket", socket); code != wanted {
					t.Errorf("--want %s: %d, want %d", want, code, wanted)
				}
			}
		})
	}
	a.Refuse(raftlockv1.Reason_REASON_RATE_LIMITED)
	for want, wanted := range map[string]int{"alive": 0, "serving": 2, "healthy": 2} {
		if code, _, errs := typed("status", "--want", want, "--socket", socket); code != wanted || !strings.Contains(errs, "rate limited") {
			t.Errorf("refused, --want %s: %d, %q, want %d", want, code, errs, wanted)
		}
	}
	if code, _, errs := typed("status", "--want", "more", "--socket", socket); code != 64 || !strings.Contains(errs, "serving") {
		t.Errorf("%d, %q", code, errs)
	}
	code, _, errs := typed("status", "--want", "alive", "--socket", socket+"x", "--timeout", "50ms")
	if code != 2 || !strings.Contains(errs, "is the agent running") {
		t.Errorf("%d, %q", code, errs)
	}
}

// A socket that this user may not open is no missing agent, and is told at once.
func TestReadingIsKeptOut(t *testing.T) {
	socket := keptOut(t)
	for _, c := range []struct {
		verb []string
		want int
	}{{[]string{"get", "a"}, 77}, {[]string{"ls"}, 77}, {[]string{"status"}, 2}} {
		p := ordinary(t, append(c.verb, "--socket", socket, "--timeout", "1m")...)
		p.exits(c.want)
		p.says("group that owns the socket")
	}
}

func TestReadingFindsNoAgent(t *testing.T) {
	socket := t.TempDir() + "/nobody.sock"
	for _, verb := range [][]string{{"get", "a"}, {"ls"}} {
		code, _, errs := typed(append(verb, "--socket", socket, "--timeout", "50ms")...)
		if code != 69 || strings.Count(errs, socket) != 1 || !strings.Contains(errs, "is the agent running") {
			t.Errorf("%v: %d, %q", verb, code, errs)
		}
	}
}

func TestAdmin(t *testing.T) {
	a, socket := startAgent(t)
	for _, name := range []string{"a", "a", "b"} {
		a.StrangerTakes(name)
	}
	for _, c := range []struct {
		name string
		args []string
		code int
		want string
	}{
		{"another token", []string{"force-release", "a", "--token", "4711"}, 76, "nothing was done"},
		{"nobody's", []string{"force-release", "free"}, 76, "nothing was done"},
		{"no such token", []string{"force-release", "a", "--token", "0"}, 64, "no grant has the token 0"},
		{"revoke", []string{"force-release", "a", "--token", "1"}, 0, "the holder of token 1 was told"},
		{"now, unconfirmed", []string{"force-release", "a", "--now"}, 64, "nothing was done"},
		{"now", []string{"force-release", "a", "--now", "--yes"}, 0, "taken from the holder of token 1"},
		{"json", []string{"force-release", "free", "--json"}, 76, `"held": false`},
		{"forget", []string{"forget-founder", "c0ffee"}, 0, "forgotten: c0ffee"},
		{"forget another", []string{"forget-founder", "bad"}, 75, "no such list"},
	} {
		t.Run(c.name, func(t *testing.T) {
			code, out, errs := typed(append([]string{"admin", "--admin-socket", socket}, c.args...)...)
			if code != c.code || !strings.Contains(out+errs, c.want) {
				t.Errorf("%d, %q, %q", code, out, errs)
			}
		})
	}
	code, _, errs := typed("admin", "force-release", "a", "--admin-socket", socket+"x")
	if code != 69 || !strings.Contains(errs, "sudo") || strings.Count(errs, socket+"x") != 1 || strings.Contains(errs, "rpc error") {
		t.Errorf("%d, %q", code, errs)
	}
	// The tests' standard input is /dev/null: a character device, and nobody.
	if code, _, errs := typed("admin", "force-release", "b", "--now", "--admin-socket", socket); code != 64 || strings.Contains(errs, "Type yes") {
		t.Errorf("%d, %q", code, errs)
	}
}

func TestWrongUse(t *testing.T) {
	for _, c := range []struct {
		args []string
		says string
	}{
		{[]string{"frob"}, "frob"},
		{[]string{"help", "frob"}, `no verb "frob"`},
		{[]string{"help", "admin", "frob"}, `no verb "admin frob"`},
		{[]string{"ls", "--timeout", "0"}, "not above zero"},
		{[]string{"admin", "force-release", "a", "--timeout", "-1s"}, "not above zero"},
	} {
		if code, _, errs := typed(c.args...); code != 64 || !strings.Contains(errs, c.says) {
			t.Errorf("%q: %d, %q", c.args, code, errs)
		}
	}
	for _, args := range [][]string{{"help"}, {"help", "run"}, {"help", "admin", "force-release"}} {
		if code, out, errs := typed(args...); code != 0 || !strings.Contains(out, "Usage:") {
			t.Errorf("%q: %d, %q", args, code, errs)
		}
	}
}

func TestLockNamesAreNoFiles(t *testing.T) {
	t.Setenv("RAFTLOCK_SOCKET", t.TempDir()+"/nobody")
	for _, verb := range [][]string{{"get"}, {"ls"}, {"run"}, {"admin", "force-release"}} {
		// The directive for "no files" is 4.
		if _, out, _ := typed(append(append([]string{"__complete"}, verb...), "")...); !strings.HasSuffix(out, ":4\n") {
			t.Errorf("%q completes %q", verb, out)
		}
	}
	if _, out, _ := typed("__complete", "run", "a", "--", ""); !strings.HasSuffix(out, ":0\n") {
		t.Errorf("a command completes %q", out)
	}
}

func TestEveryVerbHasAnExample(t *testing.T) {
	for _, cmd := range newRoot().Commands() {
		if !cmd.Hidden && cmd.Example == "" {
			t.Errorf("%s has no example", cmd.Name())
		}
	}
	for _, shell := range []string{"bash", "zsh", "fish"} {
		if code, out, errs := typed("completion", shell); code != 0 || out == "" {
			t.Errorf("completion %s: %d, %s", shell, code, errs)
		}
	}
}
