// Command mutants takes each safety rule of internal/mutant out of the product,
// one at a time, and runs the test that guards it: a test that passes all the
// same guards nothing.
//
// Each package is compiled once, with the tag mutants. Its tests first run with
// every rule in, and must pass; then once per rule without it, and must fail.
// What is printed is one line per rule and a total. The command exits with 1 if
// a rule was missed, or a test failed with every rule in or could not be run.
//
// It promises nothing about rules that are not on the list. That the list is
// whole is for the tests of internal/structure.
//
// Its workers, as many as -jobs, are waited for before it prints the total. It
// starts test binaries, bounds each by -timeout, and waits for each.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"runtime"
	"time"

	"github.com/raftlock/raftlock/internal/mutant"
)

func main() {
	run := flag.String("run", ".", "take out only the rules whose names match this regular `expression`")
	timeout := flag.Duration("timeout", 2*time.Minute, "bound on one run of one test")
	jobs := flag.Int("jobs", runtime.NumCPU(), "how many tests to run at a time")
	verbose := flag.Bool("v", false, "print what each test printed")
	flag.Parse()

	names, err := regexp.Compile(*run)
	if err != nil || flag.NArg() > 0 || *jobs < 1 {
		fmt.Fprintln(os.Stderr, "usage: mutants [-run regexp] [-timeout d] [-jobs n] [-v]")
		os.Exit(2)
	}
	var rules []mutant.Rule
	for _, rule := range mutant.Rules {
		if names.MatchString(rule.Name) {
			rules = append(rules, rule)
		}
	}
	if len(rules) == 0 {
		fmt.Fprintf(os.Stderr, "no rule matches %q\n", *run)
		os.Exit(2)
	}

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	r := runner{timeout: *timeout, jobs: *jobs, verbose: *verbose, out: os.Stdout}
	ok, err := r.run(ctx, rules)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	if err != nil || !ok {
		os.Exit(1)
	}
}
