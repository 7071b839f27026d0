package processes

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// replied is what curl got: the documented fields, and nothing besides.
type replied struct {
	Status  int    `json:"-"`
	Raw     string `json:"-"`
	Success bool   `json:"success"`
	Lock    struct {
		Key       string            `json:"key"`
		Owner     string            `json:"owner"`
		TTL       string            `json:"ttl"`
		ExpiresAt string            `json:"expires_at"`
		Version   uint64            `json:"version"`
		LeaseLeft string            `json:"lease_left"`
		Agent     string            `json:"agent"`
		Session   string            `json:"session"`
		Waiters   uint64            `json:"waiters"`
		Revoked   bool              `json:"revoked"`
		Metadata  map[string]string `json:"metadata"`
	} `json:"lock"`
	Locks []struct {
		Key     string `json:"key"`
		Owner   string `json:"owner"`
		Version uint64 `json:"version"`
	} `json:"locks"`
	Next  string `json:"next"`
	Error struct {
		Reason  string `json:"reason"`
		Message string `json:"message"`
		Applied string `json:"applied"`
		Holder  struct {
			Owner   string `json:"owner"`
			Version uint64 `json:"version"`
		} `json:"holder"`
	} `json:"error"`
}

// curl runs curl on an agent's socket. It is killed when the test is over.
type curl struct {
	cmd *exec.Cmd
	out bytes.Buffer
	err bytes.Buffer
}

func (a *agent) startCurl(path string, more ...string) *curl {
	a.c.t.Helper()
	return a.startCurlAs(nil, path, more...)
}

// startCurlAs is startCurl as another user.
func (a *agent) startCurlAs(user *syscall.Credential, path string, more ...string) *curl {
	a.c.t.Helper()
	x := &curl{}
	args := append([]string{"--silent", "--show-error", "--path-as-is", "--unix-socket", a.socket,
		"--write-out", "\n%{http_code}", "http://localhost" + path}, more...)
	x.cmd = exec.Command("curl", args...)
	x.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: user}
	x.cmd.Stdout, x.cmd.Stderr = &x.out, &x.err
	must(a.c.t, x.cmd.Start())
	a.c.t.Cleanup(func() { _ = x.cmd.Process.Kill() })
	return x
}

// answer waits for curl's end.
func (x *curl) answer(t testing.TB) (r replied) {
	t.Helper()
	if err := x.cmd.Wait(); err != nil {
		t.Fatalf("curl: %v: %s", err, x.err.String())
	}
	text, code, _ := strings.Cut(strings.TrimSpace(x.out.String()), "\n")
	r.Raw = text
	var err error
	if r.Status, err = strconv.Atoi(strings.TrimSpace(code)); err != nil {
		t.Fatalf("curl printed %q", x.out.String())
	}
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		t.Fatalf("%d %s: %v", r.Status, text, err)
	}
	return r
}

func (a *agent) curl(path string, more ...string) replied {
	a.c.t.Helper()
	return a.startCurl(path, more...).answer(a.c.t)
}

func (a *agent) post(verb, body string) replied {
	a.c.t.Helper()
	return a.curl("/locks/"+verb, "--data", body)
}

func (r replied) is(t testing.TB, status int, reason string) replied {
	t.Helper()
	if r.Status != status || r.Error.Reason != reason || r.Success != (reason == "") {
		t.Fatalf("answered %d %s, not %d %s", r.Status, r.Raw, status, reason)
	}
	return r
}

// Everything that can be done with curl, by the documented fields, on real
// agents; one owner goes from agent to agent.
func TestCurl(t *testing.T) {
	c := usual(t)
	r := c.roles()
	a, b := r.forwarders[0], r.voters[0]
	const key, body = "jobs/nightly//x", `{"key":"jobs/nightly//x","owner":"me","ttl":"30s"}`
	began := time.Now()
	first := a.post("acquire", body).is(t, 200, "")
	if l := first.Lock; l.Key != key || l.Owner != "me" || l.TTL != "30s" || l.Version == 0 {
		t.Errorf("acquired %s", first.Raw)
	}
	expires, err := time.Parse(time.RFC3339Nano, first.Lock.ExpiresAt)
	if d := expires.Sub(began); err != nil || d < 25*time.Second || d > 40*time.Second {
		t.Errorf("expires_at is %s after the request (%v): %s", d, err, first.Raw)
	}
	for name, at := range map[string]*agent{"the same agent": a, "another agent": b, "the leader's": r.leader} {
		if again := at.post("acquire", body).is(t, 200, ""); again.Lock.Version != first.Lock.Version {
			t.Errorf("repeated at %s: %s after %s", name, again.Raw, first.Raw)
		}
	}
	held := b.post("acquire", `{"key":"jobs/nightly//x","owner":"you","ttl":"30s"}`).is(t, 409, "HELD")
	if h := held.Error; h.Holder.Owner != "me" || h.Holder.Version != first.Lock.Version || h.Applied != "no" {
		t.Errorf("refused with %s", held.Raw)
	}
	longer := b.post("renew", `{"key":"jobs/nightly//x","owner":"me","ttl":"1m30s"}`).is(t, 200, "")
	if longer.Lock.Version != first.Lock.Version || longer.Lock.TTL != "90s" || longer.Lock.ExpiresAt <= first.Lock.ExpiresAt {
		t.Errorf("renewed: %s", longer.Raw)
	}
	for _, path := range []string{"/locks/jobs/nightly//x", "/locks/jobs%2Fnightly%2F%2Fx"} {
		read := a.curl(path).is(t, 200, "")
		left, err := time.ParseDuration(read.Lock.LeaseLeft)
		if l := read.Lock; l.Key != key || l.Owner != "me" || l.Version != first.Lock.Version || l.Session != "" || err != nil || left < time.Minute {
			t.Errorf("%s: %s", path, read.Raw)
		}
	}
	list := b.curl("/locks?prefix=jobs/").is(t, 200, "")
	if len(list.Locks) != 1 || list.Locks[0].Key != key || list.Locks[0].Version != first.Lock.Version {
		t.Errorf("listed: %s", list.Raw)
	}
	b.post("release", `{"key":"jobs/nightly//x","owner":"you"}`).is(t, 403, "NOT_OWNER")
	b.post("release", fmt.Sprintf(`{"key":"jobs/nightly//x","owner":"me","version":%d}`, first.Lock.Version+1)).is(t, 412, "STALE_TOKEN")
	b.post("release", fmt.Sprintf(`{"key":"jobs/nightly//x","owner":"me","version":%d}`, first.Lock.Version)).is(t, 200, "")
	b.post("release", `{"key":"jobs/nightly//x","owner":"me"}`).is(t, 409, "NOT_HELD")
	b.post("renew", `{"key":"jobs/nightly//x","owner":"me"}`).is(t, 409, "NOT_HELD")
	a.curl("/locks/jobs/nightly//x").is(t, 404, "NOT_FOUND")
	if next := a.post("acquire", body).is(t, 200, ""); next.Lock.Version <= first.Lock.Version {
		t.Errorf("acquired anew with version %d after %d", next.Lock.Version, first.Lock.Version)
	}
	a.post("release", body).is(t, 200, "") // acquire's body will do
}

// A bad request of each kind is told why, and what to do.
func TestCurlMistakes(t *testing.T) {
	c := usual(t)
	a := c.roles().forwarders[0]
	for _, m := range []struct {
		name   string
		path   string
		args   []string
		status int
		reason string
		advice string
	}{
		{"no JSON", "/locks/acquire", []string{"--data", "key=x"}, 400, "INVALID", "such as {"},
		{"a field missing", "/locks/acquire", []string{"--data", `{"owner":"me","ttl":"30s"}`}, 400, "INVALID", "key: must be given; acquire takes key"},
		{"a field nobody knows", "/locks/acquire", []string{"--data", `{"key":"x","owner":"me","ttl":"30s","tll":"1s"}`}, 400, "INVALID", "it takes key, owner, ttl"},
		{"a ttl without unit", "/locks/acquire", []string{"--data", `{"key":"x","owner":"me","ttl":30}`}, 400, "INVALID", "with a unit, such as \"30s\""},
		{"a ttl of nothing", "/locks/acquire", []string{"--data", `{"key":"x","owner":"me","ttl":"0s"}`}, 400, "INVALID", "give a length of time between 200ms"},
		{"another method", "/locks/acquire", []string{"--request", "DELETE"}, 405, "INVALID", "it takes GET, HEAD, POST"},
		{"another type", "/locks/acquire", []string{"--header", "Content-Type: text/xml", "--data", "<x/>"}, 415, "INVALID", "send application/json"},
		{"too large", "/locks/acquire", []string{"--data", strings.Repeat(" ", 70<<10)}, 413, "INVALID", "send less"},
		{"a parameter nobody knows", "/locks?colour=red", nil, 400, "INVALID", "there are: prefix"},
		{"a path nobody knows", "/lock/x", nil, 404, "NOT_FOUND", "there are /locks"},
		{"control characters", "/locks/acquire", []string{"--data", `{"key":"x\ny","owner":"me","ttl":"30s"}`}, 400, "INVALID", "leave them out"},
		{"not held", "/locks/release", []string{"--data", `{"key":"nobody's","owner":"me"}`}, 409, "NOT_HELD", "stop what it protected"},
	} {
		t.Run(m.name, func(t *testing.T) {
			got := a.curl(m.path, m.args...).is(t, m.status, m.reason)
			if !strings.Contains(got.Error.Message, m.advice) || got.Error.Applied != "no" {
				t.Error(got.Raw)
			}
		})
	}
}

// A wait ends with its caller; it is granted when its turn comes; and when its
// time is over nothing is left of it.
func TestCurlWaits(t *testing.T) {
	c := usual(t)
	r := c.roles()
	a, b := r.forwarders[0], r.voters[0]
	first := a.post("acquire", `{"key":"turn","owner":"one","ttl":"1m"}`).is(t, 200, "")
	gone := a.startCurl("/locks/acquire", "--data", `{"key":"turn","owner":"two","ttl":"1m","wait":"1m"}`)
	c.waiters("turn", 1)
	must(t, gone.cmd.Process.Kill())
	_ = gone.cmd.Wait()
	c.waiters("turn", 0)

	began := time.Now()
	b.post("acquire", `{"key":"turn","owner":"two","ttl":"1m","wait":"700ms"}`).is(t, 409, "HELD")
	figure(t, "a wait of 700ms was answered HELD, and its cancel applied, after %s", time.Since(began).Round(time.Millisecond))
	c.waiters("turn", 0)

	next := b.startCurl("/locks/acquire", "--data", `{"key":"turn","owner":"three","ttl":"1m","wait":"1m"}`)
	c.waiters("turn", 1)
	a.post("release", `{"key":"turn","owner":"one"}`).is(t, 200, "")
	if got := next.answer(t).is(t, 200, ""); got.Lock.Version <= first.Lock.Version || got.Lock.Owner != "three" {
		t.Errorf("granted: %s", got.Raw)
	}
	a.post("release", `{"key":"turn","owner":"three"}`).is(t, 200, "")
}

// An agent dies while a wait runs: whoever asks another agent by the same
// request id keeps the place.
func TestCurlKeepsItsPlace(t *testing.T) {
	c := usual(t)
	r := c.roles()
	at, other := r.forwarders[0], r.voters[0]
	at.c.t = t
	other.post("acquire", `{"key":"place","owner":"one","ttl":"1m"}`).is(t, 200, "")
	const ask = `{"key":"place","owner":"two","ttl":"1m","wait":"1m","request_id":"two's"}`
	_ = at.startCurl("/locks/acquire", "--data", ask)
	c.waiters("place", 1)
	behind := other.startCurl("/locks/acquire", "--data", `{"key":"place","owner":"three","ttl":"1m","wait":"1m"}`)
	c.waiters("place", 2)
	at.proc.kill()
	again := other.startCurl("/locks/acquire", "--data", ask)
	// The dead agent's wait keeps the place; that of the other goes with it.
	c.waiters("place", 3)
	other.post("release", `{"key":"place","owner":"one"}`).is(t, 200, "")
	again.answer(t).is(t, 200, "")
	other.post("release", `{"key":"place","owner":"two"}`).is(t, 200, "")
	behind.answer(t).is(t, 200, "")
	other.post("release", `{"key":"place","owner":"three"}`).is(t, 200, "")
	at.start()
	c.whole(formTime, 5)
}

// Ten thousand connections on which nothing happens: others of the same user are
// served, as a liveness probe has to be beside an application that leaks them,
// and so is another user; and the agent stays small.
func TestCrowdOfConnections(t *testing.T) {
	const crowd, rssMax = 10_000, 256 << 10 // KiB
	c := usual(t)
	a := c.roles().forwarders[0]
	var other *syscall.Credential // only the superuser can be another
	if os.Geteuid() == 0 {
		other = &syscall.Credential{Uid: 65534, Gid: uint32(os.Getegid())}
		for _, dir := range []string{runPath(), c.dir, a.dir} {
			must(t, os.Chmod(dir, 0o710))
		}
	}
	for _, kind := range []struct{ name, said string }{
		{"silent", ""},
		{"half-open", "POST /locks/acquire HTTP/1.1\r\nHost: localhost\r\nContent-Le"},
		{"idle", "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"},
		// The preface, and SETTINGS: no call.
		{"idle gRPC", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"},
	} {
		t.Run(kind.name, func(t *testing.T) {
			var open []int
			defer func() {
				for _, fd := range open {
					_ = unix.Close(fd)
				}
			}()
			for range crowd {
				// Plain descriptors: this is no place for ten thousand goroutines.
				fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
				must(t, err)
				open = append(open, fd)
				must(t, unix.Connect(fd, &unix.SockaddrUnix{Name: a.socket}))
				_, _ = unix.Write(fd, []byte(kind.said)) // it may be closed already
			}
			began := time.Now()
			body := fmt.Sprintf(`{"key":"crowd","owner":%q,"ttl":"30s"}`, kind.name)
			a.post("acquire", body).is(t, http.StatusOK, "")
			took := time.Since(began)
			read := a.startCurlAs(other, "/locks/crowd").answer(t).is(t, http.StatusOK, "")
			if read.Lock.Owner != kind.name {
				t.Errorf("another user reads %s", read.Raw)
			}
			a.post("release", body).is(t, http.StatusOK, "")
			rss := memory(t, a.proc.cmd.Process.Pid)
			figure(t, "beside %d %s connections: an acquire in %s, agent %d MiB", crowd, kind.name, took.Round(time.Millisecond), rss>>10)
			if rss > rssMax {
				t.Errorf("the agent has %d KiB", rss)
			}
		})
	}
}

// A user who asks too often is told when to come back; what gives something up
// passes.
func TestLimitsOfAUser(t *testing.T) {
	c := newCluster(t, plan{agents: 1, expect: 1})
	a := c.agents[0]
	const burst = 300 // forming a cluster asks some
	a.args = append(a.args, "--limit-rate", "1", "--limit-burst", fmt.Sprint(burst), "--limit-concurrent", "4")
	a.start()
	c.whole(2*formTime, 1)
	held := a.post("acquire", `{"key":"limit","owner":"me","ttl":"5m"}`).is(t, 200, "")
	for range 4 {
		a.startCurl("/locks/acquire", "--data", `{"key":"limit","owner":"you","ttl":"5m","wait":"1m"}`)
	}
	until(t, formTime, "four wait, and a fifth request is one too many", func() error {
		if got := a.curl("/locks/limit"); got.Status != 429 {
			return fmt.Errorf("answered %d %s", got.Status, got.Raw)
		}
		return nil
	})
	a.post("renew", `{"key":"limit","owner":"me","ttl":"5m","version":`+fmt.Sprint(held.Lock.Version)+`}`).is(t, 200, "")
	a.post("release", `{"key":"limit","owner":"me","version":`+fmt.Sprint(held.Lock.Version)+`}`).is(t, 200, "")
	until(t, formTime, "one of the four holds it", func() error {
		if got := a.post("release", `{"key":"limit","owner":"you","version":`+fmt.Sprint(held.Lock.Version+1)+`}`); got.Status != 200 {
			return fmt.Errorf("answered %d %s", got.Status, got.Raw)
		}
		return nil
	})
	// One curl asks for many, faster than a second gives back.
	many, err := exec.Command("curl", "--silent", "--unix-socket", a.socket, "--output", "/dev/null",
		"--write-out", "%{http_code} %header{retry-after}\n", fmt.Sprintf("http://localhost/locks/other[1-%d]", 3*burst)).Output()
	must(t, err)
	if !strings.Contains(string(many), "404 \n") || !strings.Contains(string(many), "429 1\n") {
		t.Fatalf("%d requests were answered:\n%.200s", 3*burst, many)
	}
	refused := a.post("acquire", `{"key":"limit","owner":"me","ttl":"5m"}`).is(t, 429, "RATE_LIMITED")
	if refused.Error.Applied != "no" || !strings.Contains(refused.Error.Message, "come back in") {
		t.Error(refused.Raw)
	}
	a.post("release", `{"key":"limit","owner":"me"}`).is(t, 409, "NOT_HELD")
}

// memory is a process's resident set, in KiB.
func memory(t testing.TB, pid int) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	must(t, err)
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, err := strconv.Atoi(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")))
			must(t, err)
			return kib
		}
	}
	t.Fatal("no VmRSS")
	return 0
}
