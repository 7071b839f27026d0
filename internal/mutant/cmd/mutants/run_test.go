package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/raftlock/raftlock/internal/mutant"
)

// The guard that the stories are about: it looks at the variable itself, so
// that the module under test needs nothing of this one.
const guardTest = `package guard

import (
	"os"
	"testing"
	"time"
)

func without(rule string) bool { return os.Getenv("RAFTLOCK_MUTANT") == rule }

func TestNotices(t *testing.T) {
	t.Run("case", func(t *testing.T) {
		if without("noticed") {
			t.Error("noticed")
		}
	})
}

func TestPanics(t *testing.T) {
	if without("panicked") {
		panic("noticed")
	}
}

func TestHangs(t *testing.T) {
	if without("hung") {
		time.Sleep(time.Hour)
	}
}

func TestAlwaysFails(t *testing.T) { t.Error("at all times") }
`

const guardPackage = "example.test/guard"

func TestRunner(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "go.mod"), "module "+guardPackage+"\n\ngo 1.26\n")
	write(t, filepath.Join(dir, "guard_test.go"), guardTest)
	t.Setenv("GOFLAGS", "") // flags of the module around are not this one's

	for _, c := range []struct {
		name, rule, test string
		caught           bool
		prints           string
	}{
		{"a failure in a subtest", "noticed", "^TestNotices$", true, "by TestNotices/case"},
		{"a panic", "panicked", "^TestPanics$", true, "by TestPanics"},
		{"a test that hangs", "hung", "^TestHangs$", true, "(hung)"},
		{"a test that passes all the same", "unguarded", "^TestNotices$", false, "SURVIVED"},
		{"a test that never passes", "noticed", "^TestAlwaysFails$", false, "BROKEN"},
		{"no such test", "noticed", "^TestNone$", false, "no test matches"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out strings.Builder
			r := runner{dir: dir, timeout: 2 * time.Second, jobs: 2, out: &out}
			caught, err := r.run(t.Context(), []mutant.Rule{{Name: c.rule, Package: guardPackage, Test: c.test}})
			if err != nil || caught != c.caught || !strings.Contains(out.String(), c.prints) {
				t.Errorf("caught %v, %v, want %v and %q in:\n%s", caught, err, c.caught, c.prints, out.String())
			}
		})
	}
}

func TestRunnerTellsWhatDoesNotCompile(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "go.mod"), "module "+guardPackage+"\n\ngo 1.26\n")
	write(t, filepath.Join(dir, "guard_test.go"), "package guard\n\nvar x int = \"\"\n")
	t.Setenv("GOFLAGS", "")

	r := runner{dir: dir, timeout: time.Second, jobs: 1, out: &strings.Builder{}}
	if _, err := r.run(t.Context(), []mutant.Rule{{Name: "any", Package: guardPackage, Test: "."}}); err == nil {
		t.Error("no error")
	}
}

func TestJudge(t *testing.T) {
	exit := &exec.ExitError{}
	for _, c := range []struct {
		name         string
		err, timeout error
		output       string
		want         verdict
	}{
		{"passes", nil, nil, "=== RUN   TestA\n--- PASS: TestA\n", passed},
		{"fails", exit, nil, "=== RUN   TestA\n--- FAIL: TestA\n", failed},
		{"its own bound", exit, nil, "=== RUN   TestA\npanic: test timed out after 1s\n", hung},
		{"killed", exit, os.ErrDeadlineExceeded, "=== RUN   TestA\n", hung},
		{"nothing matches", nil, nil, "testing: warning: no tests to run\nPASS\n", noTest},
		{"dies before any test", exit, nil, "panic: init\n", notRun},
		{"cannot be started", errors.New("no such file"), nil, "", notRun},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := judge(c.err, c.timeout, c.output); got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}

func TestFirstFailure(t *testing.T) {
	for _, c := range []struct{ name, output, want string }{
		{"none", "--- PASS: TestA (0.00s)\n", ""},
		{"flat", "--- FAIL: TestA (0.00s)\n    a_test.go:1: no\n--- FAIL: TestB (0.00s)\n", "TestA"},
		{"nested", "--- FAIL: TestA (0.00s)\n    --- PASS: TestA/a (0.00s)\n    --- FAIL: TestA/b (0.00s)\n        --- FAIL: TestA/b/c (0.00s)\n    --- FAIL: TestA/d (0.00s)\n", "TestA/b/c"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := firstFailure(c.output); got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
