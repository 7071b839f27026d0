package processes

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A holder is killed: who waits at another agent holds milliseconds later, by
// the kernel's word and no lease's.
func TestKilledHolder(t *testing.T) {
	for _, test := range []struct {
		name string
		how  spawn
		kept bool // a child has inherited the connection
	}{
		{name: "plain"},
		{name: "in another PID namespace", how: spawn{pidNamespace: true}},
		{name: "whose child keeps the connection", kept: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := usual(t)
			var took []time.Duration
			for n := range trials(t, 5) {
				took = append(took, killHolder(c, fmt.Sprintf("killed-%d", n), test.how, test.kept))
			}
			figure(t, "from the holder's kill to the next one's grant: %s; aim 10ms (median), 50ms (worst)", spread(took))
		})
	}
}

// killHolder tells the time from the kill to the next grant.
func killHolder(c *cluster, name string, how spawn, kept bool) time.Duration {
	const ttl = 30 * time.Second // so long that no lease can have run out
	t, r := c.t, c.roles()
	t.Helper()
	holder := r.forwarders[0].applicationAs(how).open(ttl)
	next := r.voters[0].application().open(ttl)
	first := holder.lock(name)
	if kept {
		keeper := holder.must(order{Do: "keep"}).PID
		t.Cleanup(func() { _ = unix.Kill(keeper, unix.SIGKILL) })
	}
	granted := next.wait(name, 1)
	killed := clock()
	holder.proc.signal(t, unix.SIGKILL)
	second := c.good(granted, "the next one's lock")
	took := second.Ended - killed
	switch {
	case second.Ended < killed:
		t.Fatalf("granted %s before the kill", killed-second.Ended)
	case second.Token <= first.Token:
		t.Fatalf("token %d after %d", second.Token, first.Token)
	case took > ttl/2:
		t.Fatalf("granted %s after the kill: that was the lease", took)
	}
	c.dismiss()
	return took
}

// raftlock run is killed while its child works: no work of the child's comes
// after the first of the next one's.
func TestKilledRunner(t *testing.T) {
	c := usual(t)
	r := c.roles()
	file := runPath("appended")
	// The shell's own echo: one write of one line, and no further process.
	const append1 = `while :; do echo "$RAFTLOCK_TOKEN" >> "$0"; done`
	start := func(a *agent) *process {
		return home.start(t, spawn{
			path: program(t, toolProgram),
			args: []string{"run", "--socket", a.socket, "--ttl", "30s", "appending", "--", "sh", "-c", append1, file},
			log:  a.log,
		})
	}
	at := []*agent{r.forwarders[0], r.voters[0], r.leader}
	holder := start(at[0])
	defer func() { holder.kill() }()
	tokens := 1
	until(t, formTime, "the first one appends", func() error { return distinct(file, tokens) })
	var took []time.Duration
	for n := range trials(t, 5) {
		next := start(at[(n+1)%len(at)])
		c.waiters("appending", 1)
		killed := clock()
		holder.kill()
		holder, tokens = next, tokens+1
		until(t, formTime, "the next one appends", func() error { return distinct(file, tokens) })
		took = append(took, clock()-killed)
	}
	holder.kill()
	lines, err := inOrder(file)
	if err != nil {
		t.Fatal(err)
	}
	figure(t, "from the runner's kill to the next child's first line (looked for every 20ms): %s; %d lines in order", spread(took), lines)
}

// distinct is nil if the file has so many different tokens.
func distinct(file string, want int) error {
	seen := map[string]bool{}
	err := eachLine(file, func(line string) error { seen[line] = true; return nil })
	if err == nil && len(seen) < want {
		err = fmt.Errorf("%d tokens, not %d", len(seen), want)
	}
	return err
}

// inOrder is how many lines there are; an error if one comes after one with a
// higher token.
func inOrder(file string) (lines int, err error) {
	last := uint64(0)
	err = eachLine(file, func(line string) error {
		token, err := strconv.ParseUint(line, 10, 64)
		if err != nil {
			return fmt.Errorf("line %d: %w", lines+1, err)
		}
		if lines++; token < last {
			return fmt.Errorf("line %d has token %d, and one before it %d", lines, token, last)
		}
		last = token
		return nil
	})
	return lines, err
}

func eachLine(file string, f func(string) error) error {
	in, err := os.Open(file)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	s := bufio.NewScanner(in)
	for s.Scan() {
		if err := f(strings.TrimSpace(s.Text())); err != nil {
			return err
		}
	}
	return s.Err()
}
