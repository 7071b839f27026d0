package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"time"
)

// A verdict is how one run of a story ended.
type verdict string

const (
	passed verdict = "passed"
	// failed: a test failed, or the binary panicked.
	failed verdict = "failed"
	// hung: it ran past its bound. Without a rule that counts as noticed, since
	// it passes in time with the rule.
	hung verdict = "hung"
	// noTest: no test matches, so nothing was found out.
	noTest verdict = "no test matches"
	// notRun: the binary could not be run, or its story is broken.
	notRun verdict = "not run"
)

type outcome struct {
	verdict verdict
	// by names the innermost test that failed first, empty if none did.
	by     string
	took   time.Duration
	output string
}

// grace is how much later than the test binary's own bound, which tells where
// everybody was, the process is killed.
const grace = 10 * time.Second

// outputBytesMax bounds what is kept of a test's output.
const outputBytesMax = 1 << 20

// test runs one story with one rule out; an empty rule leaves all in.
func (r *runner) test(ctx context.Context, b binary, pattern, rule string) outcome {
	ctx, cancel := context.WithTimeout(ctx, r.timeout+grace)
	defer cancel()
	cmd := exec.CommandContext(ctx, b.path,
		"-test.run="+pattern, "-test.v", "-test.failfast", "-test.count=1", "-test.timeout="+r.timeout.String())
	cmd.Dir = b.dir
	cmd.Env = append(os.Environ(), "RAFTLOCK_MUTANT="+rule)
	cmd.WaitDelay = time.Second
	var output tail
	cmd.Stdout, cmd.Stderr = &output, &output

	began := time.Now()
	err := cmd.Run()
	o := outcome{took: time.Since(began), output: output.String()}
	o.verdict = judge(err, ctx.Err(), o.output)
	o.by = firstFailure(o.output)
	return o
}

// judge makes a verdict of how the process ended and what it printed.
func judge(err, timeout error, output string) verdict {
	var exit *exec.ExitError
	switch {
	case !strings.Contains(output, "=== RUN"):
		if err == nil {
			return noTest
		}
		return notRun
	case errors.Is(timeout, context.Canceled):
		return notRun
	case timeout != nil, strings.Contains(output, "panic: test timed out after"):
		return hung
	case err == nil:
		return passed
	case errors.As(err, &exit):
		return failed
	default:
		return notRun
	}
}

var failure = regexp.MustCompile(`(?m)^( *)--- FAIL: (\S+)`)

// firstFailure finds the innermost test that is reported as failed first: a
// parent's line precedes those of its subtests.
func firstFailure(output string) string {
	by, depth := "", -1
	for _, m := range failure.FindAllStringSubmatch(output, -1) {
		if len(m[1]) <= depth {
			break
		}
		by, depth = m[2], len(m[1])
	}
	return by
}

// A tail is a writer that keeps the last outputBytesMax of what it is given.
type tail struct{ bytes.Buffer }

func (t *tail) Write(p []byte) (int, error) {
	n, err := t.Buffer.Write(p)
	if over := t.Len() - outputBytesMax; over > 0 {
		t.Next(over)
	}
	return n, err
}
