package docs

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// A command in the middle of a sentence is not run, but it is one: its verb, its
// folder or its target is there.
func TestInlineCommandsExist(t *testing.T) {
	makefile, verbs := read(t, "Makefile"), make(map[string]bool)
	for _, page := range append(pages(t), "ARCHITECTURE.md", "CONTRIBUTING.md") {
		for i, line := range strings.Split(withoutBlocks(read(t, page)), "\n") {
			for _, m := range marked.FindAllStringSubmatch(line, -1) {
				if what := wrong(m[1], makefile, verbs); what != "" {
					t.Errorf("%s:%d: %s: %s", page, i+1, m[1], what)
				}
			}
		}
	}
}

// fences find fenced blocks; what takes their place has as many lines.
var fences = regexp.MustCompile("(?ms)^```.*?^```$")

func withoutBlocks(text string) string {
	return fences.ReplaceAllStringFunc(text, func(b string) string { return strings.Repeat("\n", strings.Count(b, "\n")) })
}

var (
	ourFolder = regexp.MustCompile(`(?:^|\s)(?:\./)?((?:examples|bench|deploy)/[\w./-]+)`)
	ourVerb   = regexp.MustCompile(`^(raftlock(?:-sidecar)?)((?: [a-z][a-z-]+)+)`)
	ourTarget = regexp.MustCompile(`^make ([a-z][a-z-]+)`)
)

// wrong says what is wrong with a command; verbs remembers those that exist.
func wrong(command, makefile string, verbs map[string]bool) string {
	if m := ourTarget.FindStringSubmatch(command); m != nil && !strings.Contains(makefile, "\n"+m[1]+":") {
		return "the Makefile has no such target"
	}
	if m := ourFolder.FindStringSubmatch(command); m != nil {
		if _, err := os.Stat(filepath.Join(root, m[1])); err != nil && !strings.Contains(command, "*") {
			return "no such file or folder"
		}
	}
	m := ourVerb.FindStringSubmatch(command)
	if m == nil {
		return ""
	}
	// Of what follows a verb that has none below it, the help is that verb's.
	key := m[1] + m[2]
	if _, asked := verbs[key]; !asked {
		words := strings.Fields(m[2])
		out, err := exec.Command(filepath.Join(bin, m[1]), append(slices.Clone(words), "--help")...).CombinedOutput()
		verbs[key] = err == nil && strings.Contains(string(out), m[1]+" "+words[0])
	}
	if !verbs[key] {
		return "the program has no such verb"
	}
	return ""
}

func TestWrong(t *testing.T) {
	for _, c := range []struct {
		name, command string
		want          bool
	}{
		{"a verb", "raftlock status", false},
		{"a verb below a verb", "raftlock admin forget-founder", false},
		{"no verb", "raftlock frobnicate", true},
		{"no verb of the daemon", "raftlock-sidecar status", true},
		{"a target", "make run", false},
		{"no target", "make coffee", true},
		{"a folder", "go run ./examples/fencing", false},
		{"no folder", "go run ./examples/nothing", true},
		{"something else", "held.token", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := wrong(c.command, read(t, "Makefile"), make(map[string]bool)); (got != "") != c.want {
				t.Errorf("wrong(%q) = %q", c.command, got)
			}
		})
	}
}
