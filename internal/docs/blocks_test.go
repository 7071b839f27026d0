package docs

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const root = "../.."

// history are the pages of docs/ that tell what was, or what must be: their
// blocks are not for typing.
var history = []string{"bugs.md", "design.md"}

// A block is one fenced part of a page.
type block struct {
	page string
	line int
	// marks are the comments right before it, without their brackets.
	language string
	marks    []string
	text     string
}

func (b block) String() string { return fmt.Sprintf("%s:%d", b.page, b.line) }

// mark gives what follows prefix in the block's marks.
func (b block) mark(prefix string) (string, bool) {
	for _, m := range b.marks {
		if rest, ok := strings.CutPrefix(m, prefix); ok {
			return strings.TrimSpace(rest), true
		}
	}
	return "", false
}

// elsewhere: other tests look after it, by running it or otherwise.
func (b block) elsewhere() bool {
	_, run := b.mark("run by:")
	_, checked := b.mark("checked by:")
	return run || checked
}

// pages are the files that people read to use RaftLock, from the root.
func pages(t testing.TB) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	all := []string{"README.md", "examples/README.md"}
	for _, path := range found {
		if name := filepath.Base(path); !slices.Contains(history, name) {
			all = append(all, "docs/"+name)
		}
	}
	return all
}

func read(t testing.TB, path string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

var comment = regexp.MustCompile(`^<!-- (.*) -->$`)

// blocks takes a page apart.
func blocks(page, text string) []block {
	var all []block
	var marks []string
	var open *block
	for i, line := range strings.Split(text, "\n") {
		trimmed := strings.TrimSpace(line)
		fence, isFence := strings.CutPrefix(trimmed, "```")
		switch {
		case open != nil && isFence:
			all = append(all, *open)
			open = nil
		case open != nil:
			open.text += line + "\n"
		case isFence:
			open = &block{page: page, line: i + 1, language: fence, marks: marks}
			marks = nil
		case comment.MatchString(trimmed):
			marks = append(marks, comment.FindStringSubmatch(trimmed)[1])
		default:
			marks = nil
		}
	}
	return all
}

var languages = []string{"sh", "console", "go", "python", "json", "yaml", "ini", "text"}

// commands are what a block that is not run must not begin a line with.
var commands = regexp.MustCompile(`(?m)^\s*\$? ?(sudo |raftlock |raftlock-sidecar |\./bin/|curl|make|go (run|mod|test|get|build)|python3?|pip|systemctl|journalctl|docker|kubectl|export) `)

// A command that nobody runs is wrong sooner or later.
func TestEveryBlockIsOfAKnownKind(t *testing.T) {
	for _, page := range pages(t) {
		for _, b := range blocks(page, read(t, page)) {
			if !slices.Contains(languages, b.language) {
				t.Errorf("%s: a block of %q: give it one of %v", b, b.language, languages)
			}
			if found := commands.FindString(b.text); b.language == "text" && found != "" {
				t.Errorf("%s: nobody runs %q: make it a block of sh or console", b, strings.TrimSpace(found))
			}
		}
	}
}

var testFunction = regexp.MustCompile(`(?m)^(?:func|def|    def|async def) ([Tt]est\w+)\(`)

// What a page says is run by another test, is.
func TestTestsThatPagesNameExist(t *testing.T) {
	tests := make(map[string]bool)
	err := filepath.WalkDir(root, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return nil // others make and remove files meanwhile
		}
		name := entry.Name()
		if !strings.HasSuffix(name, "_test.go") && (!strings.HasPrefix(name, "test_") || !strings.HasSuffix(name, ".py")) {
			return nil
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return nil
		}
		for _, m := range testFunction.FindAllStringSubmatch(string(text), -1) {
			tests[m[1]] = true
		}
		return nil
	})
	if err != nil || len(tests) < 100 {
		t.Fatalf("%d tests found: %v", len(tests), err)
	}
	for _, page := range pages(t) {
		for _, b := range blocks(page, read(t, page)) {
			for _, how := range []string{"run by:", "checked by:"} {
				if name, ok := b.mark(how); ok && !tests[name] {
					t.Errorf("%s is %s %s, which does not exist", b, how, name)
				}
			}
		}
	}
}

// What is checked only names nothing that is not there.
func TestCheckedBlocksNameWhatIsThere(t *testing.T) {
	makefile, verbs, n := read(t, "Makefile"), make(map[string]bool), 0
	for _, page := range pages(t) {
		for _, b := range blocks(page, read(t, page)) {
			if _, ok := b.mark("checked by:"); !ok {
				continue
			}
			n++
			for line := range strings.Lines(b.text) {
				if what := wrong(strings.TrimSpace(line), makefile, verbs); what != "" {
					t.Errorf("%s: %s: %s", b, strings.TrimSpace(line), what)
				}
			}
		}
	}
	if n < 10 {
		t.Errorf("only %d blocks found", n)
	}
}

// Docker, Kubernetes and systemd are nowhere run as pages say: no block may claim
// it.
func TestNoBlockClaimsToRunWhatNoTestCan(t *testing.T) {
	for _, page := range pages(t) {
		for _, b := range blocks(page, read(t, page)) {
			if _, run := b.mark("run by:"); run && beyond.MatchString(b.text) {
				t.Errorf("%s is run by no test: it is checked by one", b)
			}
		}
	}
	if !beyond.MatchString("sudo systemctl enable x") || !beyond.MatchString("docker build .") || beyond.MatchString("raftlock status") {
		t.Error("the pattern is wrong")
	}
}

// beyond is what starts with a program that these tests do not have, or that
// takes them minutes.
var beyond = regexp.MustCompile(`(?m)^(sudo |docker |kubectl |systemctl |make )`)

func TestBlocks(t *testing.T) {
	text := "words\n<!-- exits with 75 -->\n```sh\nfalse\ntrue\n```\n<!-- lost -->\n\n```json\n{}\n```\n"
	got := blocks("p", text)
	if len(got) != 2 {
		t.Fatalf("%d blocks: %v", len(got), got)
	}
	if status, ok := got[0].mark("exits with"); got[0].text != "false\ntrue\n" || got[0].line != 3 || status != "75" || !ok {
		t.Errorf("the first is %+v", got[0])
	}
	if got[1].language != "json" || len(got[1].marks) != 0 {
		t.Errorf("the second is %+v", got[1])
	}
}
