package processes

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// pythonEnv names the interpreter that has the Python SDK. make sets it; without
// it the one that make python-venv makes is used.
const pythonEnv = "RAFTLOCK_PYTHON"

func pythonProgram(t testing.TB) string {
	t.Helper()
	path := os.Getenv(pythonEnv)
	if path == "" {
		path = filepath.Join("..", "..", ".bin", "python", "bin", "python")
	}
	path, err := filepath.Abs(path)
	must(t, err)
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("no Python with the SDK in it (make python-venv makes one; %s names another): %v", pythonEnv, err)
	}
	must(t, noteFiles(filepath.Join("..", "..", "sdk", "python", "src")))
	return path
}

// python starts an application that uses the Python SDK.
func (a *agent) python(ttl time.Duration) *application {
	a.c.t.Helper()
	program := filepath.Join("testdata", "application.py")
	return a.applicationAs(spawn{path: pythonProgram(a.c.t), args: []string{"-B", program}}).open(ttl)
}

// A holder in one language is killed, and a waiter in the other, at another
// agent, holds with a higher token.
func TestPythonAndGo(t *testing.T) {
	const ttl = 30 * time.Second // so long that no lease can have run out
	for _, test := range []struct {
		name         string
		holder, next func(a *agent) *application
	}{
		{"Python holds and Go waits", pythonApplication(ttl), goApplication(ttl)},
		{"Go holds and Python waits", goApplication(ttl), pythonApplication(ttl)},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := usual(t)
			var took []time.Duration
			for n := range trials(t, 2) {
				r := c.roles()
				from, to := r.forwarders[0], r.voters[0]
				if n%2 == 1 {
					from, to = to, from
				}
				took = append(took, killAcross(c, fmt.Sprintf("across/%s/%d", t.Name(), n), ttl, test.holder(from), test.next(to)))
				c.dismiss()
			}
			figure(t, "from the holder's kill to the next one's grant: %s", spread(took))
		})
	}
}

func pythonApplication(ttl time.Duration) func(*agent) *application {
	return func(a *agent) *application { return a.python(ttl) }
}

func goApplication(ttl time.Duration) func(*agent) *application {
	return func(a *agent) *application { return a.application().open(ttl) }
}

func killAcross(c *cluster, name string, ttl time.Duration, holder, next *application) time.Duration {
	t := c.t
	t.Helper()
	first := holder.lock(name)
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
	return took
}

// A Python process forks with a handle in the child: whatever the child does to
// it, the parent holds.
func TestPythonFork(t *testing.T) {
	const ttl = 2 * time.Second
	c := usual(t)
	r := c.roles()
	holder, other := r.forwarders[0].python(ttl), r.voters[0].application().open(ttl)
	first := holder.lock("forked")
	for range 3 {
		holder.must(order{Do: "fork", Lock: "forked"})
	}
	// Its beats go on: the deadline moves on beyond where it stood.
	until(t, formTime, "the lease is renewed", func() error {
		now := holder.must(order{Do: "check", Lock: "forked"})
		switch {
		case !now.Valid || now.Token != first.Token:
			t.Fatalf("valid %v, token %d, was %d", now.Valid, now.Token, first.Token)
		case now.Deadline < first.Deadline+2*ttl:
			return fmt.Errorf("the deadline is %s", now.Deadline)
		}
		return nil
	})
	if r := other.ask(order{Do: "lock", Lock: "forked", Try: true}); r.Failure == nil || r.Failure.Reason != "HELD" {
		t.Fatalf("another one's try: %v", r.Failure)
	}
	holder.must(order{Do: "unlock", Lock: "forked"})
	if second := other.lock("forked"); second.Token <= first.Token {
		t.Fatalf("token %d after %d", second.Token, first.Token)
	}
	c.dismiss()
}
