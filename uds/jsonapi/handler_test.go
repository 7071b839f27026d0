package jsonapi

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	api "github.com/raftlock/raftlock/api/raftlock/v1"
)

var heldLock = &api.PlainLock{
	Lock: "jobs/nightly", Owner: "me", Token: 1<<53 - 1, TtlNanos: uint64(30 * time.Second), DeadlineNanos: 1,
	ExpiresUnixNanos: noon.Add(29400 * time.Millisecond).UnixNano(),
}

const heldJSON = `{"success":true,"lock":{"key":"jobs/nightly","owner":"me","ttl":"30s","expires_at":"2030-01-02T12:00:29.400Z","version":9007199254740991}}`

func TestWrites(t *testing.T) {
	seconds := func(n int) *uint64 { return proto.Uint64(uint64(n) * uint64(time.Second)) }
	for _, c := range []struct {
		name, path, body string
		answer           proto.Message
		asked            proto.Message
		json             string
	}{
		{"acquire", "/locks/acquire", `{"key":"jobs/nightly","owner":"me","ttl":"30s"}`,
			&api.AcquireResponse{Lock: heldLock},
			&api.AcquireRequest{Lock: "jobs/nightly", Owner: "me", TtlNanos: seconds(30)}, heldJSON},
		{"acquire with everything", "/locks/acquire",
			`{"key":"k","owner":"o","ttl":"1m","wait":"5s","priority":-2,"metadata":{"a":"1","b":""},"request_id":"r"}`,
			&api.AcquireResponse{Lock: heldLock},
			&api.AcquireRequest{Lock: "k", Owner: "o", TtlNanos: seconds(60), WaitNanos: seconds(5), Priority: -2,
				Metadata: map[string]string{"a": "1", "b": ""}, RequestId: "r"}, heldJSON},
		{"not to wait is a value", "/locks/acquire", `{"key":"k","owner":"o","ttl":"200ms","wait":"0s"}`,
			&api.AcquireResponse{Lock: heldLock},
			&api.AcquireRequest{Lock: "k", Owner: "o", TtlNanos: proto.Uint64(2e8), WaitNanos: proto.Uint64(0)}, heldJSON},
		{"names to the byte", "/locks/acquire", `{"key":"a/../b//\u00e9\ud83d\ude00","owner":" o ","ttl":"24h"}`,
			&api.AcquireResponse{Lock: heldLock},
			&api.AcquireRequest{Lock: "a/../b//\u00e9\U0001f600", Owner: " o ", TtlNanos: seconds(86400)}, heldJSON},
		{"renew", "/locks/renew", `{"key":"k","owner":"o","ttl":"30s","version":7}`,
			&api.RenewResponse{Lock: heldLock},
			&api.RenewRequest{Lock: "k", Owner: "o", TtlNanos: seconds(30), Token: 7}, heldJSON},
		{"renew with the TTL it has", "/locks/renew", `{"key":"k","owner":"o"}`,
			&api.RenewResponse{Lock: heldLock}, &api.RenewRequest{Lock: "k", Owner: "o"}, heldJSON},
		{"release", "/locks/release", `{"key":"k","owner":"o","version":9007199254740991}`,
			&api.ReleaseResponse{Lock: &api.PlainLock{Lock: "k", Owner: "o", Token: 7, TtlNanos: 15e8}},
			&api.ReleaseRequest{Lock: "k", Owner: "o", Token: 1<<53 - 1},
			`{"success":true,"lock":{"key":"k","owner":"o","ttl":"1.5s","version":7}}`},
		{"release with acquire's body", "/locks/release", `{"key":"k","owner":"o","ttl":"30s"}`,
			&api.ReleaseResponse{Lock: &api.PlainLock{Lock: "k", Owner: "o", Token: 7, TtlNanos: 3e10}},
			&api.ReleaseRequest{Lock: "k", Owner: "o"},
			`{"success":true,"lock":{"key":"k","owner":"o","ttl":"30s","version":7}}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := &fake{answer: c.answer}
			w := ask(config(f), http.MethodPost, c.path, c.body, nil)
			mustJSON(t, w, c.json)
			same(t, f.asked, c.asked)
		})
	}
}

func TestGet(t *testing.T) {
	held := &api.GetResponse{Index: 9, Lock: &api.LockInfo{
		Name: "a", Held: true, Holder: &api.Holder{Owner: "me", Agent: "", Token: 7}, Waiters: 2,
		TtlNanos: uint64(30 * time.Second), LeaseLeftNanos: proto.Uint64(uint64(12345678 * time.Microsecond)),
		Metadata: map[string]string{"host": "<db1>"},
	}}
	const heldJSON = `{"success":true,"lock":{"key":"a","owner":"me","ttl":"30s","expires_at":"2030-01-02T12:00:12.345Z","version":7,` +
		`"lease_left":"12.346s","waiters":2,"revoked":false,"metadata":{"host":"<db1>"}},"stale":false,"index":9}`
	for target, key := range map[string]string{
		"/locks/a":                "a",
		"/locks/a/b":              "a/b",
		"/locks/a%2Fb":            "a/b",
		"/locks/a//b/":            "a//b/",
		"/locks//":                "/",
		"/locks/a/../b":           "a/../b",
		"/locks/./":               "./",
		"/locks/%2e%2e/x":         "../x",
		"/locks/50%25%3F%23":      "50%?#",
		"/locks/a+b%20c":          "a+b c",
		"/locks/acquire":          "acquire",
		"/locks/release":          "release",
		"/locks/%C3%A9":           "é",
		"/locks/a?stale=false":    "a",
		"/locks/%252F":            "%2F",
		"/locks/a:b;c=d,e@f&g=$!": "a:b;c=d,e@f&g=$!",
	} {
		t.Run(target, func(t *testing.T) {
			f := &fake{answer: held}
			mustJSON(t, ask(config(f), http.MethodGet, target, "", nil), heldJSON)
			same(t, f.asked, &api.GetRequest{Lock: key})
		})
	}
	f := &fake{answer: held}
	ask(config(f), http.MethodGet, "/locks/a?stale=true", "", nil)
	same(t, f.asked, &api.GetRequest{Lock: "a", Stale: true})

	f.answer = &api.GetResponse{Lock: &api.LockInfo{Name: "a"}}
	w := ask(config(f), http.MethodGet, "/locks/a", "", nil)
	if p := told(t, w); w.Code != http.StatusNotFound || p.Reason != "NOT_FOUND" {
		t.Errorf("a free lock: %d %+v", w.Code, p)
	}
}

func TestList(t *testing.T) {
	f := &fake{answer: &api.ListResponse{Next: "b", Index: 3, Locks: []*api.LockInfo{{
		Name: "b", Held: true, Holder: &api.Holder{Owner: "uid:1000", Agent: "agent1", Token: 8, Session: []byte{0xab, 0xcd}}, TtlNanos: 1e10,
	}}}}
	w := ask(config(f), http.MethodGet, "/locks?prefix=a%2F&pattern=*x&owner=o&contested=true&metadata.k=v&metadata.empty=&after=a&limit=10&stale=true", "", nil)
	mustJSON(t, w, `{"success":true,"locks":[{"key":"b","owner":"uid:1000","ttl":"10s","version":8,"agent":"agent1","session":"abcd",`+
		`"waiters":0,"revoked":false,"metadata":{}}],"next":"b","stale":false,"index":3}`)
	same(t, f.asked, &api.ListRequest{
		Prefix: "a/", Pattern: "*x", Owner: "o", Contested: true, After: "a", Limit: 10, Stale: true,
		Metadata: map[string]string{"k": "v", "empty": ""},
	})
	f.answer = &api.ListResponse{}
	mustJSON(t, ask(config(f), http.MethodGet, "/locks", "", nil), `{"success":true,"locks":[],"stale":false,"index":0}`)
}

func TestOtherPaths(t *testing.T) {
	f := &fake{answer: &api.StatusResponse{
		ClusterId: "c", LeaderId: "s1", LeaderName: "a1", Term: 4, QuorumSize: 2, HasQuorum: true,
		Nodes: []*api.Node{
			{Name: "a1", ServerId: "s1", Address: "1.2.3.4:5", Role: api.Node_ROLE_VOTER, Leader: true, Alive: true},
			{Name: "a2", ServerId: "s2", Role: api.Node_ROLE_FORWARDER},
		},
	}}
	c := config(f)
	mustJSON(t, ask(c, http.MethodGet, "/cluster/info", "", nil), `{"cluster_id":"c","leader_id":"s1","leader":"a1","term":4,"quorum_size":2,"has_quorum":true,`+
		`"nodes":[{"id":"s1","name":"a1","address":"1.2.3.4:5","state":"leader","alive":true},{"id":"s2","name":"a2","address":"","state":"forwarder","alive":false}]}`)
	mustJSON(t, ask(c, http.MethodGet, "/healthz", "", nil), `{"status":"alive"}`)
	mustJSON(t, ask(c, http.MethodGet, "/readyz", "", nil), `{"status":"ready"}`)
	mustJSON(t, ask(c, http.MethodHead, "/readyz", "", nil), `{"status":"ready"}`) // net/http leaves it out
	mustJSON(t, ask(c, http.MethodGet, "/metrics", "", nil), `metrics`)
	c.Behind = func() uint64 { return 4711 }
	w := ask(c, http.MethodGet, "/readyz", "", nil)
	if w.Code != http.StatusServiceUnavailable || strings.TrimSpace(w.Body.String()) != `{"status":"catching up","behind":4711}` {
		t.Errorf("a voter that catches up: %d %s", w.Code, w.Body)
	}
	c.Reach = func() api.Reason { return api.Reason_REASON_NO_QUORUM }
	if w := ask(c, http.MethodGet, "/readyz", "", nil); w.Code != http.StatusServiceUnavailable || !strings.Contains(w.Body.String(), "NO_QUORUM") {
		t.Errorf("not ready: %d %s", w.Code, w.Body)
	}
	places := told(t, ask(c, http.MethodGet, "/", "", nil)).Message
	for path := range New(c).fixed {
		if !strings.Contains(places, path) {
			t.Errorf("%q lacks %s", places, path)
		}
	}
	c.Metrics = nil
	for _, target := range []string{"/metrics", "/", "/lock", "/locks2", "/cluster", "/healthz/", "/Locks"} {
		w := ask(c, http.MethodGet, target, "", nil)
		if p := told(t, w); w.Code != http.StatusNotFound || !strings.Contains(p.Message, "/locks/acquire") {
			t.Errorf("%s: %d %+v", target, w.Code, p)
		}
	}
}

func TestMethods(t *testing.T) {
	for _, c := range []struct{ method, target, allow string }{
		{http.MethodPost, "/locks/x", "GET, HEAD"},
		{http.MethodPost, "/locks", "GET, HEAD"},
		{http.MethodPut, "/locks/acquire", "GET, HEAD, POST"},
		{http.MethodDelete, "/locks/x", "GET, HEAD"},
		{http.MethodOptions, "/locks/acquire", "GET, HEAD, POST"},
		{http.MethodPost, "/cluster/info", "GET, HEAD"},
		{http.MethodPost, "/healthz", "GET, HEAD"},
	} {
		f := &fake{}
		w := ask(config(f), c.method, c.target, "", nil)
		if p := told(t, w); w.Code != http.StatusMethodNotAllowed || w.Header().Get("Allow") != c.allow || p.Reason != "INVALID" || f.asked != nil {
			t.Errorf("%s %s: %d, Allow %q, %+v", c.method, c.target, w.Code, w.Header().Get("Allow"), p)
		}
	}
}

// Who hangs up ends the request; a server's deadlines do not.
func TestHangUp(t *testing.T) {
	entered := make(chan context.Context, 1)
	f := &waiting{entered: entered, release: make(chan struct{})}
	s := httptest.NewUnstartedServer(New(Config{API: f, Now: time.Now}))
	s.Config.ReadTimeout, s.Config.WriteTimeout = 50*time.Millisecond, 50*time.Millisecond
	s.Start()
	defer s.Close()
	conn, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	body := `{"key":"k","owner":"o","ttl":"30s","wait":"1h"}`
	_, _ = fmt.Fprintf(conn, "POST /locks/acquire HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	ctx := <-entered
	select {
	case <-ctx.Done():
		t.Fatal("the server's deadline ended the wait")
	case <-time.After(200 * time.Millisecond):
	}
	_ = conn.Close()
	select {
	case <-ctx.Done():
	case <-time.After(10 * time.Second):
		t.Fatal("who hung up goes on waiting")
	}
}

// waiting waits in Acquire.
type waiting struct {
	api.UnimplementedRaftLockServer
	entered chan context.Context
	release chan struct{}
}

func (f *waiting) Acquire(ctx context.Context, _ *api.AcquireRequest) (*api.AcquireResponse, error) {
	f.entered <- ctx
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-f.release:
		return &api.AcquireResponse{Lock: heldLock}, nil
	}
}

// An answer after a long wait, and the next request on the connection, are not
// cut by the deadlines of the one before.
func TestConnectionIsKept(t *testing.T) {
	f := &waiting{entered: make(chan context.Context, 1), release: make(chan struct{})}
	s := httptest.NewUnstartedServer(New(Config{API: f, Now: time.Now}))
	s.Config.ReadTimeout, s.Config.WriteTimeout, s.Config.IdleTimeout = 50*time.Millisecond, 50*time.Millisecond, time.Minute
	s.Start()
	defer s.Close()
	for range 2 {
		got := make(chan string, 1)
		go func() {
			r, err := s.Client().Post(s.URL+"/locks/acquire", "application/json", strings.NewReader(`{"key":"k","owner":"o","ttl":"30s","wait":"1h"}`))
			if err != nil {
				got <- err.Error()
				return
			}
			defer r.Body.Close()
			b, _ := io.ReadAll(r.Body)
			got <- strings.TrimSpace(string(b))
		}()
		<-f.entered
		select {
		case x := <-got:
			t.Fatal(x)
		case <-time.After(100 * time.Millisecond):
		}
		f.release <- struct{}{}
		if x := <-got; x != heldJSON {
			t.Fatal(x)
		}
	}
}

// Whoever measures requests finds a bounded number of patterns.
func TestPatterns(t *testing.T) {
	for _, c := range []struct{ method, target, pattern string }{
		{"GET", "/locks/a/b", "GET /locks/{key}"},
		{"HEAD", "/locks/a", "GET /locks/{key}"},
		{"POST", "/locks/acquire", "POST /locks/acquire"},
		{"POST", "/locks/a", ""},
		{"GET", "/locks?limit=1", "GET /locks"},
		{"GET", "/cluster/info", "GET /cluster/info"},
		{"GET", "/a/secret", ""},
	} {
		r := httptest.NewRequest(c.method, c.target, nil)
		New(config(&fake{err: context.Canceled})).ServeHTTP(httptest.NewRecorder(), r)
		if r.Pattern != c.pattern {
			t.Errorf("%s %s: pattern %q", c.method, c.target, r.Pattern)
		}
	}
}
