package docs

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/raftlock/raftlock/internal/devagent"
)

// bound is more than any block takes.
const bound = 2 * time.Minute

// documented is the address that pages use for --http.
const documented = "127.0.0.1:7951"

var bin string

func TestMain(m *testing.M) { os.Exit(devagent.Main(m, root, &bin)) }

// Everything that a page tells people to type is typed here, in its order.
func TestPagesWork(t *testing.T) {
	for _, page := range pages(t) {
		t.Run(page, func(t *testing.T) {
			var todo []block
			for _, b := range blocks(page, read(t, page)) {
				if !b.elsewhere() && runs[b.language] != nil {
					todo = append(todo, b)
				}
			}
			if len(todo) == 0 {
				return
			}
			t.Parallel()
			r := newReader(t)
			for _, b := range todo {
				if t.Failed() {
					return // what comes later builds on it
				}
				runs[b.language](r, t, b)
			}
		})
	}
}

var runs map[string]func(*reader, *testing.T, block)

func init() {
	runs = map[string]func(*reader, *testing.T, block){
		"sh": (*reader).sh, "console": (*reader).console, "go": (*reader).goCode, "python": (*reader).python, "json": (*reader).json,
	}
}

// A reader does what one page says.
type reader struct {
	agent *devagent.Agent
	env   []string
	// exports are the lines of earlier blocks that the later ones have.
	exports []string
}

func newReader(t *testing.T) *reader {
	t.Helper()
	r := &reader{agent: devagent.Start(t, bin)}
	r.env = append(r.agent.Env(), "HOME="+r.agent.Home)
	// Its home is empty, but the module's packages need not be fetched again.
	for _, name := range []string{"GOCACHE", "GOMODCACHE", "GOPATH", "GOFLAGS", "GOPROXY"} {
		out, err := exec.Command("go", "env", name).Output()
		if err != nil {
			t.Fatal(err)
		}
		r.env = append(r.env, name+"="+strings.TrimSpace(string(out)))
	}
	return r
}

// command makes bash run text as somebody who has set errexit.
func (r *reader) command(text string) *exec.Cmd {
	text = strings.ReplaceAll(text, "./bin/", r.agent.Bin+"/")
	text = strings.ReplaceAll(text, documented, r.agent.HTTP)
	script := "set -euo pipefail\n" + strings.Join(r.exports, "\n") + "\n" + text
	cmd := exec.Command("bash", "-c", script)
	cmd.Dir, cmd.Env = root, r.env
	return cmd
}

// ends runs cmd and kills all of its process group when it takes too long.
func ends(cmd *exec.Cmd) (out []byte, err error) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = 5 * time.Second // for pipes that a daemon may have kept
	var text bytes.Buffer
	cmd.Stdout, cmd.Stderr = &text, &text
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	late := time.AfterFunc(bound, func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
	defer late.Stop()
	err = cmd.Wait()
	return text.Bytes(), err
}

func (r *reader) sh(t *testing.T, b block) {
	t.Helper()
	r.bash(t, b, b.text)
}

// bash runs text, which is of block b, and gives what it printed.
func (r *reader) bash(t *testing.T, b block, text string) string {
	t.Helper()
	if _, ok := b.mark("in the background"); ok {
		r.background(t, text)
		return ""
	}
	out, err := ends(r.command(text))
	for line := range strings.SplitSeq(text, "\n") {
		if strings.HasPrefix(line, "export ") {
			r.exports = append(r.exports, line)
		}
	}
	if want, got := wanted(t, b), status(err); got != want {
		t.Errorf("%s: status %d, want %d (%v)\n%s\n%s", b, got, want, err, text, out)
	}
	return string(out)
}

// background starts what a page leaves running in another terminal.
func (r *reader) background(t *testing.T, text string) {
	t.Helper()
	devagent.Run(t, r.command(text))
}

// wanted is the status that a block says it ends with.
func wanted(t *testing.T, b block) int {
	t.Helper()
	text, ok := b.mark("exits with")
	if !ok {
		return 0
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("%s: exits with %q", b, text)
	}
	return n
}

func status(err error) int {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return exit.ExitCode()
	}
	return -1
}

// console runs each "$ " line (with those that a backslash joins to it) and
// compares what it prints.
func (r *reader) console(t *testing.T, b block) {
	t.Helper()
	for _, part := range strings.Split("\n"+b.text, "\n$ ")[1:] {
		text, said, joined := "", part, true
		for joined {
			var line string
			line, said, _ = strings.Cut(said, "\n")
			text += line + "\n"
			joined = strings.HasSuffix(line, `\`)
		}
		if got := r.bash(t, b, text); !prints(said, got) {
			t.Errorf("%s: %s prints\n%s\nand not\n%s", b, strings.TrimSpace(text), got, said)
		}
	}
}

var number = regexp.MustCompile(`[0-9]+([.][0-9]+)*`)

// prints reports whether got is what a page says is printed.
func prints(said, got string) bool {
	plain := func(s string) string { return number.ReplaceAllString(strings.TrimSpace(s), "0") }
	parts := strings.Split(plain(said), "...")
	for i := range parts {
		parts[i] = regexp.QuoteMeta(parts[i])
	}
	return regexp.MustCompile(`(?s)^` + strings.Join(parts, ".*") + `$`).MatchString(plain(got))
}

func TestPrints(t *testing.T) {
	for _, c := range []struct {
		name, said, got string
		want            bool
	}{
		{"the same", "a b\n", "a b", true},
		{"other numbers", "token 12, 3.5ms\n", "token 4711, 12ms\n", true},
		{"anything", "a...z", "a\nb\nz", true},
		{"another word", "held", "free", false},
		{"more", "a", "a\nb", false},
		{"a dot is a dot", "a.b", "axb", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := prints(c.said, c.got); got != c.want {
				t.Errorf("prints(%q, %q) = %v", c.said, c.got, got)
			}
		})
	}
}

func (r *reader) json(t *testing.T, b block) {
	t.Helper()
	if !json.Valid([]byte(b.text)) {
		t.Errorf("%s is no JSON", b)
	}
}

// fragment is where a part of a program is compiled.
const fragment = `package main

import (
	"context"
	"errors"
	"fmt"

	raftlock "github.com/raftlock/raftlock/sdk/go"
	"github.com/raftlock/raftlock/sdk/go/guard"
)

var (
	_ = errors.Is
	_ = fmt.Println
	_ raftlock.Lock
)

func part(ctx context.Context, session *raftlock.Session, tokens *guard.Guard, token uint64, write func(context.Context) error) error {
	{
%s
	}
	return nil
}

func main() {}
`

// dots is a line that a reader fills in.
var dots = regexp.MustCompile(`(?m)^\s*\.\.\.\s*$`)

// unused is what the compiler says of parts only.
var unused = regexp.MustCompile(`(?m)^.*(declared and not used|too many errors|^#).*\n?`)

func (r *reader) goCode(t *testing.T, b block) {
	t.Helper()
	text, whole := b.text, strings.HasPrefix(b.text, "package ")
	if !whole {
		text = fmt.Sprintf(fragment, dots.ReplaceAllString(text, "if err != nil { return err }"))
	}
	dir := t.TempDir()
	source, program := filepath.Join(dir, "main.go"), filepath.Join(dir, "program")
	if err := os.WriteFile(source, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	build := exec.Command("go", "build", "-buildvcs=false", "-gcflags=-e", "-o", program, source)
	build.Dir, build.Env = root, r.env
	out, err := build.CombinedOutput()
	if left := unused.ReplaceAll(out, nil); err != nil && (whole || len(bytes.TrimSpace(left)) > 0) {
		t.Errorf("%s does not compile: %v\n%s", b, err, out)
		return
	}
	if whole {
		r.bash(t, b, program)
	}
}

func (r *reader) python(t *testing.T, b block) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "main.py")
	if err := os.WriteFile(file, []byte(b.text), 0o600); err != nil {
		t.Fatal(err)
	}
	python, env := devagent.Python(t, root)
	r.env = append(r.env, env...)
	r.bash(t, b, python+" "+file)
}
