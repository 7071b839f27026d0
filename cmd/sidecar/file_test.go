package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
)

// typed runs the command line with these variables, and a standard file.
func typed(environment map[string]string, standard string, args ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	cmd := newCommandOf(func(name string) (string, bool) { v, ok := environment[name]; return v, ok }, standard)
	cmd.SetOut(&out)
	cmd.SetErr(&errs)
	cmd.SetArgs(args)
	code = execute(context.Background(), cmd)
	return code, out.String(), errs.String()
}

func written(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "sidecar.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

const good = `# a comment
name: file
data-dir: /f
socket-group: 1000
join: [a, "b:1"]
initial:
  - one
  - two, three
expect: 3
insecure-plaintext: true
election-timeout: 2s
role: auto
`

func TestFileCountsLeast(t *testing.T) {
	path := written(t, good)
	f := newFlags()
	s := pflag.NewFlagSet("test", pflag.ContinueOnError)
	f.register(s)
	if err := s.Parse([]string{"--name", "flag", "--config", path}); err != nil {
		t.Fatal(err)
	}
	variables := map[string]string{"RAFTLOCK_NAME": "variable", "RAFTLOCK_DATA_DIR": "/v", "RAFTLOCK_JOIN": "c"}
	read, err := load(s, func(name string) (string, bool) { v, ok := variables[name]; return v, ok }, f.from, "")
	if err != nil || read != path {
		t.Fatal(read, err)
	}
	o := f.opt
	if o.Name != "flag" || o.DataDir != "/v" || strings.Join(o.Join, " ") != "c" || strings.Join(o.Initial, "|") != "one|two, three" ||
		o.Expect != 3 || !o.InsecurePlaintext || o.ElectionTimeout != 2*time.Second || o.SocketGroup != "1000" {
		t.Errorf("%+v", o)
	}
	for flag, want := range map[string]string{"name": "--name", "data-dir": "RAFTLOCK_DATA_DIR", "expect": path + ":9", "bind": ""} {
		if f.from[flag] != want {
			t.Errorf("%s is from %q, want %q", flag, f.from[flag], want)
		}
	}
}

func TestFileMistakes(t *testing.T) {
	for _, c := range []struct {
		name string
		text string
		want string // after the path
	}{
		{"nothing", "", ""},
		{"a comment", "# nothing\n", ""},
		{"dashes", "---\n", ""},
		{"an alias", "name: &n x\ndata-dir: *n\n", ""},
		{"a key that is near", "\nexpct: 3\n", ":2: expct: no such setting; did you mean expect?"},
		{"an underscore", "data_dir: /x\n", ":1: data_dir: no such setting; did you mean data-dir?"},
		{"a key that is not", "frobnicate: 3\n", ":1: frobnicate: no such setting; the keys are the flags"},
		{"twice", "expect: 3\nname: x\nexpect: 5\n", ":3: expect: given twice, first in line 1; keep one"},
		{"a word for a number", "expect: five\n", `:1: expect: it is to be a whole number, and is "five"`},
		{"a quoted number", "expect: \"5\"\n", `:1: expect: it is to be a whole number, and is "5"`},
		{"a word for a truth", "insecure-plaintext: yes\n", `:1: insecure-plaintext: it is to be true or false, and is "yes"`},
		{"a truth for a word", "name: true\n", `:1: name: it is to be text (between quotes, if need be), and is "true"`},
		{"no unit", "election-timeout: 5\n", `:1: election-timeout: it is to be a time with its unit, such as 5s, and is "5"`},
		{"another unit", "election-timeout: 5x\n", `such as 5s, and is "5x"`},
		{"no value", "name:\n", ":1: name: it is to be text (between quotes, if need be), and is empty; leave the line out"},
		{"a word for a bound", "limit-rate: fast\n", `:1: limit-rate: it is to be a number or off, and is "fast"`},
		{"bounds", "limit-rate: off\nlimit-burst: off\nlimit-concurrent: 7\n", ""},
		{"a list for a word", "name: [a]\n", ", and is a list"},
		{"a mapping for a word", "name: {a: b}\n", ", and is a mapping"},
		{"a word for a list", "join: a,b\n", `:1: join: it is to be a list, such as [a, b], and is "a,b"`},
		{"a list of lists", "join: [[a]]\n", ":1: join: line 1: an item of a list is one word"},
		{"a list", "- name\n", ":1: settings are lines of the form key: value"},
		{"two documents", "name: x\n---\nname: y\n", ": a second document begins"},
		{"no YAML", "name: [\n", ": yaml: "},
		{"for the command line", "dev: true\n", ":1: dev: this is for the command line alone: --dev"},
		{"itself", "config: x\n", ":1: config: this is for the command line alone"},
		{"a key that is no word", "[a]: x\n", "a key is one word"},
		{"a merge", "a: &a {name: x}\n<<: *a\n", ":2: <<: no such setting"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := written(t, c.text)
			code, out, errs := typed(nil, "", "config", "check", "--config", path)
			if c.want == "" {
				if code != 0 || out != path+": ok\n" || errs != "" {
					t.Errorf("%d, %q, %q", code, out, errs)
				}
				return
			}
			if code != 64 || !strings.Contains(errs, path) || !strings.Contains(errs, c.want) {
				t.Errorf("%d, %q; want %q", code, errs, c.want)
			}
		})
	}
}

// All that is wrong is told at once, also what a variable covers up.
func TestFileMistakesAreToldTogether(t *testing.T) {
	path := written(t, "expect: x\nnam: y\njoin: 3\nelection-timeout: 1\n")
	code, _, errs := typed(map[string]string{"RAFTLOCK_ELECTION_TIMEOUT": "2s", "RAFTLOCK_PEER_PORT": "x", "RAFTLOCK_JOIN": "a"}, "", "config", "check", "--config", path)
	for _, want := range []string{":1: expect", ":2: nam: no such setting; did you mean name?", ":3: join", ":4: election-timeout", "RAFTLOCK_PEER_PORT"} {
		if code != 64 || !strings.Contains(errs, want) {
			t.Errorf("%d, %q lacks %q", code, errs, want)
		}
	}
}

// What is covered up keeps what covers it.
func TestCoveredSettingsAreOnlyLookedAt(t *testing.T) {
	path := written(t, "expect: 3\njoin: [b]\nelection-timeout: 9s\n")
	_, out, errs := typed(nil, "", "config", "show", "--config", path, "--expect", "1", "--join", "a", "--election-timeout", "2s")
	for _, want := range []string{"expect: 1 # --expect\n", "join: [a] # --join\n", "election-timeout: 2s # --election-timeout\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q, %q lacks %q", out, errs, want)
		}
	}
}

func TestWhichFileIsRead(t *testing.T) {
	standard, other := written(t, "name: standard\n"), written(t, "name: other\n")
	absent := filepath.Join(t.TempDir(), "absent.yaml")
	for _, c := range []struct {
		name      string
		variable  string
		standard  string
		args      []string
		code      int
		wantName  string
		wantInErr string
	}{
		{"the standard one", "", standard, nil, 0, "standard", ""},
		{"none", "", absent, []string{"--name", "flag"}, 0, "flag", ""},
		{"by flag", "", standard, []string{"--config", other}, 0, "other", ""},
		{"by variable", other, standard, nil, 0, "other", ""},
		{"none is wanted", other, standard, []string{"--config=", "--name", "flag"}, 0, "flag", ""},
		{"not the standard one for --dev", "", standard, []string{"--dev", "--dev-dir", "x", "--name", "flag"}, 0, "flag", ""},
		{"another one for --dev", "", standard, []string{"--dev", "--dev-dir", "x", "--config", other}, 0, "other", ""},
		{"one that is not there", "", standard, []string{"--config", absent}, 64, "", absent},
		{"a folder", "", standard, []string{"--config", t.TempDir()}, 64, "", "no regular file"},
		{"one that is too long", "", standard, []string{"--config", written(t, strings.Repeat("#", fileBytesMax+1))}, 64, "", "above"},
	} {
		t.Run(c.name, func(t *testing.T) {
			code, out, errs := typed(map[string]string{"RAFTLOCK_CONFIG": c.variable}, c.standard, append([]string{"config", "show"}, c.args...)...)
			if code != c.code || !strings.Contains(out, c.wantName) || !strings.Contains(errs, c.wantInErr) {
				t.Errorf("%d, %q, %q", code, out, errs)
			}
		})
	}
}

func TestDistance(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"", "abc", 3}, {"abc", "", 3}, {"expct", "expect", 1}, {"kitten", "sitting", 3}, {"ab", "ba", 2}} {
		if got := distance(c.a, c.b); got != c.want {
			t.Errorf("%q to %q: %d, want %d", c.a, c.b, got, c.want)
		}
	}
}

func FuzzFile(f *testing.F) {
	for _, seed := range []string{good, "a: &a [*a]", "? [x]\n: y", "name: !!binary x", "<<: {a: b}", "join: [\x00]", "name: *x"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		flags := newFlags()
		s := pflag.NewFlagSet("test", pflag.ContinueOnError)
		flags.register(s)
		_ = fromFile(s, "x", text, flags.from) // it must only not panic
	})
}
