package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/raftlock/raftlock/internal/mutant"
)

// A runner takes rules out and looks whether their tests notice.
type runner struct {
	// dir is a folder of the module under test; empty: the current one.
	dir string
	// timeout bounds one run of one test.
	timeout time.Duration
	// jobs is how many tests run at a time.
	jobs    int
	verbose bool
	out     io.Writer
}

// A story is one pattern of tests in one package. Rules may share it.
type story struct{ pkg, test string }

// A binary is a package's tests, compiled with the tag mutants.
type binary struct {
	path string
	// dir is the package's folder, where go test would run them.
	dir string
}

// run tries the rules in their order, and reports whether all were caught. The
// error tells of what kept it from finding out.
func (r *runner) run(ctx context.Context, rules []mutant.Rule) (bool, error) {
	scratch, err := os.MkdirTemp("", "mutants-")
	if err != nil {
		return false, err
	}
	defer os.RemoveAll(scratch)

	began := time.Now()
	binaries, err := r.compile(ctx, rules, scratch)
	if err != nil {
		return false, err
	}
	fmt.Fprintf(r.out, "%d packages compiled in %s\n", len(binaries), since(began))

	broken := r.baseline(ctx, rules, binaries)
	caught := r.hunt(ctx, rules, binaries, broken)
	fmt.Fprintf(r.out, "%d mutants, %d caught, %s\n", len(rules), caught, since(began))
	return caught == len(rules), ctx.Err()
}

func (r *runner) compile(ctx context.Context, rules []mutant.Rule, scratch string) (map[string]binary, error) {
	binaries := make(map[string]binary)
	for _, rule := range rules {
		if _, ok := binaries[rule.Package]; ok {
			continue
		}
		list := exec.CommandContext(ctx, "go", "list", "-f", "{{.Dir}}", rule.Package)
		list.Dir, list.Stderr = r.dir, r.out
		folder, err := list.Output()
		if err != nil {
			return nil, fmt.Errorf("find %s: %w", rule.Package, err)
		}
		b := binary{
			path: filepath.Join(scratch, fmt.Sprintf("%d.test", len(binaries))),
			dir:  strings.TrimSpace(string(folder)),
		}
		build := exec.CommandContext(ctx, "go", "test", "-c", "-tags", "mutants", "-o", b.path, rule.Package)
		build.Dir, build.Stdout, build.Stderr = r.dir, r.out, r.out
		if err := build.Run(); err != nil {
			return nil, fmt.Errorf("compile the tests of %s: %w", rule.Package, err)
		}
		binaries[rule.Package] = b
	}
	return binaries, nil
}

// baseline runs each story with every rule in, and returns those that do not
// pass: they cannot guard anything.
func (r *runner) baseline(ctx context.Context, rules []mutant.Rule, binaries map[string]binary) map[story]bool {
	var stories []story
	for _, rule := range rules {
		if s := (story{rule.Package, rule.Test}); !slices.Contains(stories, s) {
			stories = append(stories, s)
		}
	}
	broken := make(map[story]bool)
	r.each(len(stories), func(i int) outcome {
		return r.test(ctx, binaries[stories[i].pkg], stories[i].test, "")
	}, func(i int, o outcome) {
		s := stories[i]
		if o.verdict == passed {
			return
		}
		broken[s] = true
		fmt.Fprintf(r.out, "BROKEN    %s %s: %s with every rule in\n%s", s.pkg, s.test, o.verdict, indent(o.output))
	})
	return broken
}

// hunt takes each rule out and counts those that were noticed.
func (r *runner) hunt(ctx context.Context, rules []mutant.Rule, binaries map[string]binary, broken map[story]bool) int {
	width := 0
	for _, rule := range rules {
		width = max(width, len(rule.Name))
	}
	caught := 0
	r.each(len(rules), func(i int) outcome {
		if broken[story{rules[i].Package, rules[i].Test}] {
			return outcome{verdict: notRun}
		}
		return r.test(ctx, binaries[rules[i].Package], rules[i].Test, rules[i].Name)
	}, func(i int, o outcome) {
		rule := rules[i]
		word, detail := "SURVIVED ", fmt.Sprintf("%s %s: %s", rule.Package, rule.Test, o.verdict)
		if o.verdict == failed || o.verdict == hung {
			caught++
			word, detail = "caught   ", "by "+cmp.Or(o.by, rule.Test)
			if o.verdict == hung {
				detail += " (hung)"
			}
		}
		fmt.Fprintf(r.out, "%s %-*s %7s  %s\n", word, width, rule.Name, o.took.Round(10*time.Millisecond), detail)
		if r.verbose {
			fmt.Fprint(r.out, indent(o.output))
		}
	})
	return caught
}

// each calls work for 0..n-1 on as many goroutines as there are jobs, and tell
// in rising order on this one. It returns when all of them have.
func (r *runner) each(n int, work func(int) outcome, tell func(int, outcome)) {
	outcomes := make([]chan outcome, n)
	indexes := make(chan int, n)
	for i := range n {
		outcomes[i] = make(chan outcome, 1)
		indexes <- i
	}
	close(indexes)

	var workers sync.WaitGroup
	for range r.jobs {
		workers.Go(func() {
			for i := range indexes {
				outcomes[i] <- work(i)
			}
		})
	}
	for i, c := range outcomes {
		tell(i, <-c)
	}
	workers.Wait()
}

func since(t time.Time) time.Duration { return time.Since(t).Round(100 * time.Millisecond) }

// indent sets what a test printed apart from what this command prints.
func indent(text string) string {
	if text == "" {
		return ""
	}
	return "    " + strings.ReplaceAll(strings.TrimSuffix(text, "\n"), "\n", "\n    ") + "\n"
}
