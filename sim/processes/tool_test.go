package processes

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// typed is a command line that is under way.
type typed struct {
	t      testing.TB
	args   []string
	cmd    *exec.Cmd
	out    bytes.Buffer
	errors bytes.Buffer
}

// types starts the tool with the agent's socket.
func (a *agent) types(t testing.TB, args ...string) *typed {
	t.Helper()
	p := &typed{t: t, args: args, cmd: exec.Command(program(t, toolProgram), args...)}
	p.cmd.Env = append(environment(), "RAFTLOCK_SOCKET="+a.socket)
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.errors
	p.cmd.SysProcAttr = &unix.SysProcAttr{Pdeathsig: unix.SIGKILL}
	var err error
	home.do(func() { err = p.cmd.Start() })
	must(t, err)
	t.Cleanup(func() { _ = p.cmd.Process.Kill(); _ = p.cmd.Wait() })
	return p
}

// exits waits for its end, checks the status and returns the output.
func (p *typed) exits(status int) string {
	p.t.Helper()
	_ = p.cmd.Wait()
	if got := p.cmd.ProcessState.ExitCode(); got != status {
		p.t.Fatalf("raftlock %s: status %d, not %d: %s%s", strings.Join(p.args, " "), got, status, &p.out, &p.errors)
	}
	return p.out.String()
}

// A script takes, renews and gives back a lock, each through another agent; a
// second one waits its turn.
func TestScriptTakesALock(t *testing.T) {
	c := usual(t)
	r := c.roles()
	here, there := r.forwarders[0], r.voters[0]
	first := here.types(t, "acquire", "scripts/a", "--owner", "one", "--ttl", "1m", "--metadata", "job=7").exits(0)
	if again := there.types(t, "acquire", "scripts/a", "--owner", "one").exits(0); again != first {
		t.Errorf("the owner's second acquire has token %s, not %s", again, first)
	}
	token := strings.TrimSpace(first)
	there.types(t, "renew", "scripts/a", "--owner", "one", "--token", token, "--ttl", "30s").exits(0)
	here.types(t, "renew", "scripts/a", "--owner", "two").exits(76)
	there.types(t, "release", "scripts/a", "--owner", "two").exits(76)
	here.types(t, "acquire", "scripts/a", "--owner", "two").exits(75)
	here.types(t, "acquire", "scripts/a", "--owner", "two", "--wait", "200ms").exits(75)
	next := r.leader.types(t, "acquire", "scripts/a", "--owner", "two", "--wait", "1m", "--json")
	c.waiters("scripts/a", 1)
	at := clock()
	here.types(t, "release", "scripts/a", "--owner", "one", "--token", token).exits(0)
	var got struct {
		Name, Owner, TTL string
		Token            uint64
	}
	before, err := strconv.ParseUint(token, 10, 64)
	must(t, err)
	if err := json.Unmarshal([]byte(next.exits(0)), &got); err != nil || got.Name != "scripts/a" || got.Owner != "two" || got.TTL != "30s" || got.Token <= before {
		t.Errorf("%v: %+v after token %d", err, got, before)
	}
	figure(t, "from typing release at one agent to the end of the acquire that waited at another: %s", (clock() - at).Round(100*time.Microsecond))
	here.types(t, "renew", "scripts/a", "--owner", "one", "--token", token).exits(76)
	there.types(t, "release", "scripts/a", "--owner", "two").exits(0)
	here.types(t, "release", "scripts/a", "--owner", "two").exits(76)
}

// A waiter that is interrupted leaves the queue.
func TestInterruptedScriptLeavesTheQueue(t *testing.T) {
	c := usual(t)
	r := c.roles()
	a := r.forwarders[0]
	a.types(t, "acquire", "scripts/b", "--owner", "one", "--ttl", "1m").exits(0)
	waiter := a.types(t, "acquire", "scripts/b", "--owner", "two", "--wait", "1m")
	c.waiters("scripts/b", 1)
	must(t, waiter.cmd.Process.Signal(unix.SIGINT))
	_ = waiter.cmd.Wait()
	c.waiters("scripts/b", 0)
	a.types(t, "release", "scripts/b", "--owner", "one").exits(0)
}

func TestMembersAreListed(t *testing.T) {
	c := usual(t)
	for _, a := range c.agents {
		lines := strings.Split(strings.TrimSpace(a.types(t, "members").exits(0)), "\n")
		leaders, voters := 0, 0
		for _, line := range lines[1:] {
			cells := strings.Fields(line)
			if len(cells) != 6 || cells[4] != "yes" {
				t.Errorf("%s lists %q", a.name, line)
				continue
			}
			if cells[1] == "voter" {
				voters++
			}
			if cells[2] == "leader" {
				leaders++
			}
		}
		if len(lines) != len(c.agents)+1 || leaders != 1 || voters != 5 {
			t.Errorf("%s lists %d leaders and %d voters: %q", a.name, leaders, voters, lines)
		}
	}
}

// However a bench ends, it leaves no lock.
func TestBenchLeavesNothing(t *testing.T) {
	c := usual(t)
	a := c.roles().forwarders[0]
	for _, load := range []string{"--workers", "--contend"} {
		said := a.types(t, "bench", load, "8", "--duration", "2s", "--prefix", "bench/").exits(0)
		for line := range strings.Lines(said) {
			figure(t, "%s 8: %s", load, strings.TrimSpace(line))
		}
	}
	for _, s := range []unix.Signal{unix.SIGINT, unix.SIGKILL} {
		p := a.types(t, "bench", "--contend", "8", "--duration", "1h", "--prefix", "bench/")
		until(t, formTime, "the bench works", func() error { return someHeld(a, "bench/", true) })
		must(t, p.cmd.Process.Signal(s))
		if s == unix.SIGINT {
			p.exits(0)
		} else {
			_ = p.cmd.Wait()
		}
		until(t, formTime, "nothing is held", func() error { return someHeld(a, "bench/", false) })
	}
	// Completion reads what some replica knows, which may be a little old.
	until(t, formTime, "completion offers nothing", func() error {
		if out := a.types(t, "__complete", "get", "bench/").exits(0); out != ":4\n" {
			return fmt.Errorf("it offers %q", out)
		}
		return nil
	})
}

func someHeld(a *agent, prefix string, want bool) error {
	locks, _, err := a.list(prefix)
	if err == nil && (len(locks) > 0) != want {
		err = fmt.Errorf("%d locks are held or waited for", len(locks))
	}
	return err
}
