package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// programVariable makes the test's binary the program.
const programVariable = "RAFTLOCK_SPEED_TEST"

func TestMain(m *testing.M) {
	if os.Getenv(programVariable) != "" || os.Getenv(nodeVariable) != "" {
		main()
	}
	os.Exit(m.Run())
}

// command is the program as a process of its own, which a test may interrupt.
func command(t *testing.T, dir string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], append([]string{"-dir", dir}, args...)...)
	cmd.Env = append(os.Environ(), programVariable+"=1")
	return cmd
}

func TestEveryLineIsPrinted(t *testing.T) {
	dir := t.TempDir()
	cmd := command(t, dir, "-duration", "40ms", "-rounds", "1", "-workers", "1,17")
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s%s", err, out, complaints.String())
	}
	for _, s := range plan([]int{1, 17}) {
		for _, f := range figures {
			for _, p := range s.places {
				line := fmt.Sprintf(`(?m)^%s, %s, %s: \d+(\.\d+)?( \(bare \d+(\.\d+)?, (\d+|\+Inf)%%\))?$`,
					regexp.QuoteMeta(f.name(s.workload)), s.who(), p)
				if !regexp.MustCompile(line).Match(out) {
					t.Errorf("no line like %s", line)
				}
			}
		}
	}
	if t.Failed() {
		t.Logf("%s", out)
	}
	nothingIsLeft(t, dir)
}

func TestItLeavesNothingBehind(t *testing.T) {
	for name, c := range map[string]struct {
		signal os.Signal
		tidy   bool
	}{
		"interrupted": {os.Interrupt, true},
		"killed":      {syscall.SIGKILL, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			cmd := command(t, dir, "-sidecar", os.Args[0])
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			eventually(t, "it starts processes", func() bool { return len(processesOf(t, dir)) > votersCount })
			if err := cmd.Process.Signal(c.signal); err != nil {
				t.Fatal(err)
			}
			if err := cmd.Wait(); err == nil {
				t.Error("it says that all went well")
			}
			eventually(t, "all its processes end", func() bool { return len(processesOf(t, dir)) == 0 })
			if c.tidy {
				nothingIsLeft(t, dir)
			}
		})
	}
}

func nothingIsLeft(t *testing.T, dir string) {
	t.Helper()
	left, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range left {
		t.Errorf("%s is left", f.Name())
	}
	if n := len(processesOf(t, dir)); n > 0 {
		t.Errorf("%d processes are left", n)
	}
}

// processesOf are the processes that have dir in their command or environment.
func processesOf(t *testing.T, dir string) (out []string) {
	t.Helper()
	all, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range all {
		for _, file := range []string{"cmdline", "environ"} {
			text, err := os.ReadFile(filepath.Join(p, file))
			if err == nil && bytes.Contains(text, []byte(dir)) {
				out = append(out, p)
				break
			}
		}
	}
	return out
}

func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	late := time.After(startBound)
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for !done() {
		select {
		case <-again.C:
		case <-late:
			t.Fatalf("not in %v: %s", startBound, what)
		}
	}
}

func TestFlagsAreRefused(t *testing.T) {
	for name, args := range map[string]string{
		"no worker":      "-workers 0",
		"not a number":   "-workers 1,many",
		"too many":       "-workers 1025",
		"no duration":    "-duration 0s",
		"no round":       "-rounds 0",
		"something else": "more",
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := parse(strings.Fields(args), io.Discard); err == nil {
				t.Errorf("%s was taken", args)
			}
		})
	}
}

func TestProcessorTimeIsRead(t *testing.T) {
	for name, c := range map[string]struct {
		stat string
		want time.Duration
		bad  bool
	}{
		"plain":           {stat: "7 (a) S 1 1 1 0 -1 4194304 1 2 3 4 150 50 0 0 20", want: 2 * time.Second},
		"name of fields":  {stat: "7 (a) S 1 (b) S 1 1 1 0 -1 4194304 1 2 3 4 1 2 0 0 20", want: 30 * time.Millisecond},
		"cut short":       {stat: "7 (a) S 1", bad: true},
		"not a number":    {stat: "7 (a) S 1 1 1 0 -1 4194304 1 2 3 4 x 50 0 0 20", bad: true},
		"nothing, at all": {bad: true},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := parseStat([]byte(c.stat))
			if got != c.want || (err != nil) != c.bad {
				t.Errorf("%v, %v", got, err)
			}
		})
	}
}

func TestQuantiles(t *testing.T) {
	var hundred []time.Duration
	for i := range 100 {
		hundred = append(hundred, time.Duration(i+1))
	}
	for name, c := range map[string]struct {
		of      []time.Duration
		percent int
		want    time.Duration
	}{
		"median":        {hundred, 50, 50},
		"99 of 100":     {hundred, 99, 99},
		"99 of 10":      {hundred[:10], 99, 10},
		"of one":        {hundred[:1], 50, 1},
		"of none":       {nil, 50, 0},
		"least of some": {hundred, 0, 1},
	} {
		t.Run(name, func(t *testing.T) {
			if got := quantile(c.of, c.percent); got != c.want {
				t.Errorf("got %d, want %d", got, c.want)
			}
		})
	}
	if got := median([]int{5, 1, 3, 9}, func(i int) int { return i }); got != 3 {
		t.Errorf("median is %d", got)
	}
}

func TestLeadersThatMoveAreMeasuredAgain(t *testing.T) {
	other := errors.New("something else")
	for name, c := range map[string]struct {
		answers []error
		want    error
		calls   int
	}{
		"steady":        {[]error{nil}, nil, 1},
		"moved once":    {[]error{errMoved, nil}, nil, 2},
		"failed":        {[]error{fmt.Errorf("x: %w", other)}, other, 1},
		"moves and how": {[]error{errMoved, errMoved, errMoved, errMoved, errMoved}, errMoved, triesMax},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				calls := 0
				_, err := steady(t.Context(), io.Discard, func() (sample, error) {
					calls++
					return sample{}, c.answers[calls-1]
				})
				if !errors.Is(err, c.want) || calls != c.calls {
					t.Errorf("%v after %d calls", err, calls)
				}
			})
		})
	}
}
