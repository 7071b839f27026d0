package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"

	raftlockv1 "github.com/raftlock/raftlock/api/raftlock/v1"
	"github.com/raftlock/raftlock/cmd/raftlock/internal/runner"
	raftlock "github.com/raftlock/raftlock/sdk/go"
)

// A story a case: each line is typed in turn at one agent.
func TestPlainVerbs(t *testing.T) {
	type line struct {
		args string
		code int
		out  string
		says string // in the standard error
	}
	for _, c := range []struct {
		name  string
		lines []line
	}{
		{"a life", []line{
			{"acquire a --owner me", 0, "1\n", ""},
			{"acquire a --owner me", 0, "1\n", ""}, // renewed
			{"renew a --owner me --ttl 1m", 0, "1\n", ""},
			{"renew a --owner me --token 1", 0, "1\n", ""},
			{"release a --owner me --token 1", 0, "", ""},
			{"release a --owner me", 76, "", "not held"},
			{"renew a --owner me", 76, "", "raftlock acquire takes it anew"},
			{"acquire a --owner me", 0, "2\n", ""},
		}},
		{"a rival", []line{
			{"acquire a --owner me", 0, "1\n", ""},
			{"acquire a --owner you", 75, "", "lock is held"},
			{"acquire a --owner you", 75, "", "(--wait 1m)"},
			{"acquire a --owner you --wait 20ms", 75, "", "(more than --wait 20ms)"},
			{"acquire a --owner you --wait 20ms", 75, "", "a longer --wait"},
			{"renew a --owner you", 76, "", "not the owner"},
			{"release a --owner you", 76, "", "not the owner"},
			{"renew a --owner me --token 9", 76, "", "stale token"},
			{"release a --owner me", 0, "", ""},
			{"acquire a --owner you --wait 20ms", 0, "2\n", ""},
		}},
		{"wrong use", []line{
			{"acquire a", 64, "", `"owner"`},
			{"acquire --owner me", 64, "", "1 arg"},
			{"acquire a --owner me --ttl 1ms", 64, "", "TTL 1ms is below 200ms"},
			{"acquire a --owner me --wait -1s", 64, "", "--wait -1s is negative"},
			{"acquire a --owner me --metadata x", 64, "", "x"},
			{"acquire a --owner me --timeout 0", 64, "", "--timeout 0s"},
			{"renew a --owner me --token 0", 64, "", "no grant has the token 0"},
			{"release a --owner me --token 0", 64, "", "no grant has the token 0"},
			{"release a --owner=", 64, "", "an owner's name is missing"},
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, socket := startAgent(t)
			for _, l := range c.lines {
				code, out, errs := typed(append(strings.Fields(l.args), "--socket", socket)...)
				if code != l.code || out != l.out || !strings.Contains(errs, l.says) || (code == 0) != (errs == "") {
					t.Errorf("%s: %d, %q, %q; want %+v", l.args, code, out, errs, l)
				}
			}
		})
	}
}

func TestPlainVerbsAsJSON(t *testing.T) {
	_, socket := startAgent(t)
	for _, verb := range []string{"acquire", "renew", "release"} {
		code, out, errs := typed(verb, "a", "--owner", "me", "--json", "--socket", socket)
		var l struct {
			Name, Owner, TTL string
			Token            uint64
			Expires          time.Time `json:"expires_at"`
		}
		err := json.Unmarshal([]byte(out), &l)
		if code != 0 || err != nil || l.Name != "a" || l.Owner != "me" || l.Token != 1 || l.TTL != "30s" || l.Expires.IsZero() != (verb == "release") {
			t.Errorf("%s: %d, %v, %s, %s", verb, code, err, out, errs)
		}
	}
}

func TestAcquireAsksForAll(t *testing.T) {
	a, socket := startAgent(t)
	a.StrangerTakes("a")
	first := start(t, socket, "acquire", "a", "--owner", "low", "--wait", "1m")
	await(t, a, "wait a")
	second := start(t, socket, "acquire", "a", "--owner", "high", "--wait", "1m", "--priority", "5", "--metadata", "job=7", "--metadata", "by=me", "--ttl", "7s")
	if err := a.Await(patient(t), func(events []string) bool { return strings.Count(strings.Join(events, " "), "wait a") == 2 }); err != nil {
		t.Fatal(err)
	}
	a.StrangerLeaves("a")
	second.exits(0)
	code, out, errs := typed("get", "a", "--json", "--socket", socket)
	var info raftlock.LockInfo
	if err := json.Unmarshal([]byte(out), &info); code != 0 || err != nil || info.Owner != "high" || info.TTL != 7*time.Second ||
		info.Metadata["job"] != "7" || info.Metadata["by"] != "me" {
		t.Errorf("%d, %v, %s, %s", code, err, out, errs)
	}
	if code, _, errs := typed("release", "a", "--owner", "high", "--socket", socket); code != 0 {
		t.Errorf("%d, %s", code, errs)
	}
	if got := first.line(); got != "3" {
		t.Errorf("token %s", got)
	}
	first.exits(0)
}

// Who stops waiting leaves the queue.
func TestInterruptedAcquireLeavesTheQueue(t *testing.T) {
	a, socket := startAgent(t)
	a.StrangerTakes("a")
	p := start(t, socket, "acquire", "a", "--owner", "me", "--wait", "1m")
	await(t, a, "wait a")
	p.signal(syscall.SIGTERM)
	p.exits(128 + 15)
	p.says(`"me" may hold it`)
	if strings.Contains(p.stderr.String(), "is the agent running") {
		t.Errorf("%q", p.stderr.String())
	}
	await(t, a, "cancel")
}

func TestCaughtSignalGivesTheStatus(t *testing.T) {
	by, cancel := context.WithCancelCause(t.Context())
	cancel(caught{syscall.SIGHUP})
	words := errors.New("words")
	for _, c := range []struct {
		name string
		ctx  context.Context
		err  error
		want int
		said error
	}{
		{"all went well", by, nil, 0, nil},
		{"no signal", t.Context(), exit(69, words), 69, words},
		{"a signal", by, words, 129, words},
		{"a signal, and a status already", by, exit(69, words), 129, words},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got *exitError
			if errors.As(orCaught(c.ctx, c.err), &got) != (c.want != 0) || got != nil && (got.code != c.want || got.err != c.said) {
				t.Errorf("%+v", got)
			}
		})
	}
}

// Every reason an agent may give ends with a status of the table, and a hint.
func TestEveryReasonHasAStatus(t *testing.T) {
	known := map[string]bool{}
	for _, e := range exits {
		known[e.status] = true
	}
	a, socket := startAgent(t)
	want := map[raftlockv1.Reason]int{
		raftlockv1.Reason_REASON_HELD: 75, raftlockv1.Reason_REASON_NO_LEADER: 75, raftlockv1.Reason_REASON_NO_QUORUM: 75,
		raftlockv1.Reason_REASON_QUEUE_FULL: 75, raftlockv1.Reason_REASON_RATE_LIMITED: 75, raftlockv1.Reason_REASON_LIMIT: 75,
		raftlockv1.Reason_REASON_NOT_HELD: 76, raftlockv1.Reason_REASON_NOT_OWNER: 76, raftlockv1.Reason_REASON_STALE_TOKEN: 76,
		raftlockv1.Reason_REASON_LOST: 76, raftlockv1.Reason_REASON_REVOKED: 76, raftlockv1.Reason_REASON_EXPIRED: 76,
		raftlockv1.Reason_REASON_INVALID: 64, raftlockv1.Reason_REASON_DENIED: 77,
	}
	for number, name := range raftlockv1.Reason_name {
		reason := raftlockv1.Reason(number)
		if reason == raftlockv1.Reason_REASON_UNSPECIFIED || reason == raftlockv1.Reason_REASON_OK {
			continue
		}
		a.Refuse(reason)
		code, out, errs := typed("acquire", "a", "--owner", "me", "--socket", socket)
		if status, listed := want[reason]; !known[fmt.Sprint(code)] || listed && code != status || out != "" || !strings.Contains(errs, "; ") {
			t.Errorf("%s: %d, %q, %q", name, code, out, errs)
		}
	}
}

func TestHelpListsTheStatuses(t *testing.T) {
	_, out, _ := typed("help")
	for _, status := range []int{runner.ExitUsage, runner.ExitNoAgent, runner.ExitNotAcquired, runner.ExitLost, runner.ExitDenied,
		runner.ExitNotRunnable, runner.ExitNotFound} {
		if !regexp.MustCompile(fmt.Sprintf(`(?m)^  %d +\w`, status)).MatchString(out) {
			t.Errorf("help does not list %d", status)
		}
	}
}

// mute never answers a plain request.
type mute struct {
	raftlockv1.UnimplementedRaftLockServer
}

func (mute) Acquire(ctx context.Context, _ *raftlockv1.AcquireRequest) (*raftlockv1.AcquireResponse, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func (mute) Renew(ctx context.Context, _ *raftlockv1.RenewRequest) (*raftlockv1.RenewResponse, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func (mute) Release(ctx context.Context, _ *raftlockv1.ReleaseRequest) (*raftlockv1.ReleaseResponse, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// Whoever does not know whether it was done is told so, and what to do.
func TestUnansweredVerbsSayWhatMayBe(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	raftlockv1.RegisterRaftLockServer(server, mute{})
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	for _, c := range []struct{ verb, next string }{
		{"acquire", `; "me" may hold it`},
		{"renew", "; it may be renewed"},
		{"release", "; it may be given back"},
	} {
		code, out, errs := typed(c.verb, "a", "--owner", "me", "--timeout", "200ms", "--socket", socket)
		if code != 69 || out != "" || !strings.Contains(errs, "(applied: unknown)"+c.next) {
			t.Errorf("%s: %d, %q, %q", c.verb, code, out, errs)
		}
		code, out, errs = typed(c.verb, "a", "--owner", "me", "--timeout", "50ms", "--socket", socket+"x")
		if code != 69 || out != "" || strings.Contains(errs, "unknown") || strings.Contains(errs, c.next) || !strings.Contains(errs, "is the agent running") {
			t.Errorf("%s, but nobody was asked: %d, %q, %q", c.verb, code, out, errs)
		}
	}
}

// What the help shows works as typed, in a shell.
func TestPlainVerbsInAScript(t *testing.T) {
	_, socket := startAgent(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(patient(t), "bash", "-euc", `
raftlock() { (exec -a raftlock "$SELF" "$@"); }
token=$(raftlock acquire deploy --owner "deploy-$BUILD" --wait 1m) || exit
echo "token $token"
status=0; raftlock acquire deploy --owner other || status=$?
echo "other $status"
raftlock renew deploy --owner "deploy-$BUILD" --token "$token" > /dev/null
raftlock release deploy --owner "deploy-$BUILD" --token "$token"
status=0; raftlock renew deploy --owner "deploy-$BUILD" --token "$token" || status=$?
echo "late $status"
status=0; raftlock release deploy --owner x --token "" || status=$?
echo "empty $status"
`)
	cmd.Env = append(os.Environ(), "SELF="+self, "RAFTLOCK_SOCKET="+socket, "BUILD=7")
	out, err := cmd.Output()
	if want := "token 1\nother 75\nlate 76\nempty 64\n"; err != nil || string(out) != want {
		t.Errorf("%v: %q, want %q", err, out, want)
	}
}

// A long wait is for a turn, not for an agent; one that comes soon is found.
func TestAcquireDoesNotWaitLongForAnAgent(t *testing.T) {
	a, socket := startAgent(t)
	code, _, errs := typed("acquire", "a", "--owner", "me", "--wait", "1h", "--timeout", "100ms", "--socket", socket+"x")
	if code != 69 || !strings.Contains(errs, "no agent for 100ms") || strings.Count(errs, socket) != 1 {
		t.Errorf("%d, %q", code, errs)
	}
	late := filepath.Join(filepath.Dir(socket), "late")
	p := start(t, late, "acquire", "a", "--owner", "me", "--wait", "1h", "--timeout", "1m")
	if err := os.Symlink(socket, late); err != nil {
		t.Fatal(err)
	}
	p.exits(0)
	await(t, a, "grant a 1")
}

func TestPlainHoldsAreShown(t *testing.T) {
	var b strings.Builder
	l := raftlock.LockInfo{Name: "a", Held: true, Owner: "me", Token: 1, TTL: time.Second}
	if err := errors.Join(printLock(&b, l), printLocks(&b, []raftlock.LockInfo{l})); err != nil {
		t.Fatal(err)
	}
	if out := b.String(); !strings.Contains(out, "held by me\n") || !strings.Contains(out, "0        -      1s   held\n") {
		t.Errorf("%q", out)
	}
}
