package main

import (
	"encoding/json"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/raftlock/raftlock/cmd/raftlock/internal/bench"
)

func TestBenchPrintsAFigureALine(t *testing.T) {
	_, socket := startAgent(t)
	latencies := `p50 [\d.]+ms, p90 [\d.]+ms, p99 [\d.]+ms, max [\d.]+ms\n`
	for _, c := range []struct {
		name string
		args []string
		want string
	}{
		{"own", []string{"--workers", "3"}, `^workers:  3, each on a lock of its own\ntime:     \d+\.\ds\npairs:    \d+, [\d.]+ per second\n` +
			`acquire:  ` + latencies + `release:  ` + latencies + `refused:  0\n$`},
		{"contended", []string{"--contend", "3"}, `^workers:  3, all on one lock\n(?s).*\nhand-off: ` + latencies + `refused:  0\n$`},
	} {
		t.Run(c.name, func(t *testing.T) {
			code, out, errs := typed(append([]string{"bench", "--duration", "100ms", "--socket", socket}, c.args...)...)
			if code != 0 || errs != "" || !regexp.MustCompile(c.want).MatchString(out) {
				t.Errorf("%d, %q, %q", code, out, errs)
			}
			var r bench.Report
			_, out, _ = typed(append([]string{"bench", "--duration", "100ms", "--socket", socket, "--json"}, c.args...)...)
			if err := json.Unmarshal([]byte(out), &r); err != nil || r.Workers != 3 || r.Pairs == 0 || r.Acquire.Max == 0 {
				t.Errorf("%v: %s", err, out)
			}
		})
	}
}

func TestBenchWrongUse(t *testing.T) {
	_, socket := startAgent(t)
	for _, c := range []struct {
		args string
		code int
		says string
	}{
		{"--workers 0", 64, "0 workers"},
		{"--contend 0", 64, "0 workers"},
		{"--workers 1001", 64, "1 to 1000"},
		{"--workers 1 --contend 1", 64, "contend workers"},
		{"--duration 0s", 64, "--duration 0s"},
		{"--timeout 0s", 64, "--timeout 0s"},
		{"--ttl 1ms", 64, "TTL 1ms"},
		{"--prefix " + strings.Repeat("x", 513), 64, "bytes"},
		{"--timeout 50ms --socket " + socket + "x", 69, "is the agent running"},
	} {
		code, out, errs := typed(append([]string{"bench", "--socket", socket}, strings.Fields(c.args)...)...)
		if code != c.code || !strings.Contains(errs, c.says) || out != "" {
			t.Errorf("%.40s: %d, %q, %q", c.args, code, out, errs)
		}
	}
}

// Ctrl-C is a way to say how long, and leaves nothing.
func TestBenchInterrupted(t *testing.T) {
	a, socket := startAgent(t)
	p := start(t, socket, "bench", "--contend", "3", "--duration", "1h")
	if err := a.Await(patient(t), func(events []string) bool { return len(events) > 50 }); err != nil {
		t.Fatal(err)
	}
	p.signal(syscall.SIGINT)
	if out := p.rest(); !strings.Contains(out, "pairs:") {
		t.Errorf("%q", out)
	}
	p.exits(0)
	if _, out, _ := typed("ls", "raftlock-bench/", "--socket", socket, "--json"); strings.TrimSpace(out) != "[]" {
		t.Errorf("left: %s", out)
	}
}
