package main

import (
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

// What show prints is a file that says the same: every flag can be a key.
func TestShowIsAFile(t *testing.T) {
	args := []string{"config", "show", "--config", written(t, good), "--http", "127.0.0.1:80", "--log-format", "json"}
	code, first, errs := typed(nil, "", args...)
	if code != 0 {
		t.Fatal(code, errs)
	}
	again := written(t, first)
	code, second, errs := typed(nil, "", "config", "show", "--config", again)
	if code != 0 {
		t.Fatal(code, errs)
	}
	values := func(text string) (lines []string) {
		for line := range strings.Lines(text) {
			value, _, _ := strings.Cut(line, " #")
			lines = append(lines, strings.TrimSpace(value))
		}
		return lines[1:]
	}
	if a, b := strings.Join(values(first), "\n"), strings.Join(values(second), "\n"); a != b {
		t.Errorf("%s\nbecame\n%s", a, b)
	}
	f := newFlags()
	s := pflag.NewFlagSet("test", pflag.ContinueOnError)
	f.register(s)
	s.VisitAll(func(flag *pflag.Flag) {
		for _, elsewhere := range notInFile {
			if flag.Name == elsewhere {
				return
			}
		}
		if !strings.Contains(second, "\n"+flag.Name+": ") || !strings.Contains(second, again+":") {
			t.Errorf("%s is no key", flag.Name)
		}
	})
}

func TestShowTellsOrigins(t *testing.T) {
	path := written(t, "expect: 3\n")
	code, out, errs := typed(map[string]string{"RAFTLOCK_LOG_LEVEL": "debug"}, "", "config", "show", "--config", path, "--dev", "--dev-dir", "/tmp/x", "--name", "n")
	for _, want := range []string{"# file read: " + path, "name: n # --name\n", "log-level: debug # RAFTLOCK_LOG_LEVEL\n",
		"expect: 3 # " + path + ":1\n", "data-dir: /tmp/x/data # --dev\n", "role: auto # default\n"} {
		if code != 0 || !strings.Contains(out, want) {
			t.Errorf("%d, %q, %q lacks %q", code, out, errs, want)
		}
	}
}

// Checking is the whole of what a start would judge, and starts nothing.
func TestCheckJudgesAsAStartDoes(t *testing.T) {
	dir := t.TempDir() + "/none"
	code, _, errs := typed(nil, "", "config", "check", "--dev", "--dev-dir", dir, "--log-level", "loud", "--election-timeout", "1ms")
	if code != 64 || !strings.Contains(errs, "--log-level") || !strings.Contains(errs, "--election-timeout") {
		t.Errorf("%d, %q", code, errs)
	}
	if code, out, errs := typed(nil, "", "config", "check", "--dev", "--dev-dir", dir); code != 0 || out != "no file was read; flags and variables: ok\n" {
		t.Errorf("%d, %q, %q", code, out, errs)
	}
	if _, err := readBounded(dir); err == nil {
		t.Error("the folder was made")
	}
	if code, _, errs := typed(nil, "", "config", "frob"); code != 64 || !strings.Contains(errs, "frob") {
		t.Errorf("%d, %q", code, errs)
	}
}

// A setting that can be read and makes no sense is told by where it stands.
func TestCheckNamesTheOrigin(t *testing.T) {
	path := written(t, "expect: 3\npeer-port: 99999\nsocket-group: no-such-group\nrole: x\n")
	variables := map[string]string{"RAFTLOCK_BIND": "here", "RAFTLOCK_ROLE": "voter"}
	code, _, errs := typed(variables, "", "config", "check", "--config", path, "--expect", "4")
	for _, want := range []string{"  " + path + ":2: --peer-port 99999", "  " + path + `:3: --socket-group "no-such-group"`,
		"  RAFTLOCK_BIND: --bind ", "  RAFTLOCK_ROLE: --role ", "  --expect 4"} {
		if code != 64 || !strings.Contains(errs, want) {
			t.Errorf("%d, %q lacks %q", code, errs, want)
		}
	}
}

func TestCompletion(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		if code, out, errs := typed(nil, "", "completion", shell); code != 0 || !strings.Contains(out, "raftlock-sidecar") {
			t.Errorf("%s: %d, %q", shell, code, errs)
		}
	}
	if code, _, errs := typed(nil, "", "completion", "tcsh"); code != 64 || !strings.Contains(errs, "tcsh") {
		t.Errorf("an unknown shell: %d, %q", code, errs)
	}
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"--role", ""}, "auto\nforwarder\n:4\n"},
		{[]string{"config", "check", "--expect", ""}, "1\n3\n5\n:4\n"},
		{[]string{"--log-format", ""}, "text\njson\n:4\n"},
		{[]string{"--election-timeout", ""}, ":4\n"},
		{[]string{"--data-dir", ""}, ":16\n"}, // folders
		{[]string{"--config", ""}, "yaml\nyml\n:8\n"},
		{[]string{"--socket", ""}, ":0\n"}, // files
	} {
		if _, out, errs := typed(nil, "", append([]string{"__complete"}, c.args...)...); out != c.want {
			t.Errorf("%q completes %q, want %q (%s)", c.args, out, c.want, errs)
		}
	}
}
