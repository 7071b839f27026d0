package jsonapi

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	api "github.com/raftlock/raftlock/api/raftlock/v1"
)

const good = `"key":"k","owner":"o","ttl":"30s"`

// A bad request of each kind is told which field is wrong and what to do, and
// never reaches the API.
func TestBadBodies(t *testing.T) {
	for _, c := range []struct {
		name, path, body string
		code             int
		says             string
	}{
		{"nothing", "acquire", ``, 400, "must be a JSON object"},
		{"no JSON", "acquire", `key=k&owner=o`, 400, "must be a JSON object"},
		{"a list", "acquire", `[]`, 400, "must be a JSON object"},
		{"half", "acquire", `{"key":"k"`, 400, "send one object"},
		{"a comma too many", "acquire", `{` + good + `,}`, 400, "no JSON"},
		{"trailing garbage", "acquire", `{` + good + `} x`, 400, "goes on"},
		{"two objects", "acquire", `{` + good + `}{}`, 400, "goes on"},
		{"an unknown field", "acquire", `{` + good + `,"tll":"3s"}`, 400, `"tll": acquire has no such field; it takes key, owner, ttl and optionally wait`},
		{"a field in capitals", "acquire", `{"Key":"k","owner":"o","ttl":"30s"}`, 400, `"Key"`},
		{"a field of another request", "acquire", `{` + good + `,"version":3}`, 400, `"version"`},
		{"a wait to renew", "renew", `{"key":"k","owner":"o","wait":"3s"}`, 400, `"wait"`},
		{"a field twice", "acquire", `{` + good + `,"key":"k"}`, 400, `"key": is there twice`},
		{"a field twice, escaped", "acquire", `{` + good + `,"k\u0065y":"j"}`, 400, `"key": is there twice`},
		{"no key", "acquire", `{"owner":"o","ttl":"30s"}`, 400, "key: must be given"},
		{"no owner", "release", `{"key":"k"}`, 400, "owner: must be given"},
		{"no ttl", "acquire", `{"key":"k","owner":"o"}`, 400, "ttl: must be given"},
		{"an empty key", "acquire", `{"key":"","owner":"o","ttl":"30s"}`, 400, "key: is empty"},
		{"an empty request id", "acquire", `{` + good + `,"request_id":""}`, 400, "request_id: is empty"},
		{"null", "acquire", `{"key":null,"owner":"o","ttl":"30s"}`, 400, "key: must be a text"},
		{"a number for a name", "acquire", `{"key":1,"owner":"o","ttl":"30s"}`, 400, "key: must be a text"},
		{"a long key", "acquire", bodyOf(field("key", strings.Repeat("k", 513)), `"owner":"o","ttl":"30s"`), 400, "key: has 513 bytes"},
		{"control characters", "acquire", `{"key":"a\nb","owner":"o","ttl":"30s"}`, 400, "control characters; leave them out"},
		{"ttl a number", "acquire", `{"key":"k","owner":"o","ttl":30}`, 400, `ttl: must be a text with a unit, such as "30s"`},
		{"ttl without a unit", "acquire", `{"key":"k","owner":"o","ttl":"30"}`, 400, "ttl: "},
		{"ttl zero", "acquire", `{"key":"k","owner":"o","ttl":"0s"}`, 400, "give a length of time between 200ms and 24h"},
		{"ttl negative", "acquire", `{"key":"k","owner":"o","ttl":"-1s"}`, 400, "between 200ms and 24h"},
		{"ttl too small", "acquire", `{"key":"k","owner":"o","ttl":"199ms"}`, 400, "between 200ms and 24h"},
		{"ttl too large", "renew", `{"key":"k","owner":"o","ttl":"25h"}`, 400, "between 200ms and 24h"},
		{"ttl wrong in a release", "release", `{"key":"k","owner":"o","ttl":"x"}`, 400, "ttl: "},
		{"wait negative", "acquire", `{` + good + `,"wait":"-1s"}`, 400, "give a length of time between 0s and 24h"},
		{"priority a text", "acquire", `{` + good + `,"priority":"1"}`, 400, "priority: "},
		{"priority too large", "acquire", `{` + good + `,"priority":2147483648}`, 400, "priority: "},
		{"priority with a fraction", "acquire", `{` + good + `,"priority":1.0}`, 400, "priority: "},
		{"version zero", "release", `{"key":"k","owner":"o","version":0}`, 400, "version: "},
		{"version a text", "release", `{"key":"k","owner":"o","version":"7"}`, 400, "version: "},
		{"version too large", "renew", `{"key":"k","owner":"o","version":9007199254740992}`, 400, "version: "},
		{"version with an exponent", "renew", `{"key":"k","owner":"o","version":1e3}`, 400, "version: "},
		{"metadata a text", "acquire", `{` + good + `,"metadata":"x"}`, 400, "metadata: "},
		{"metadata of numbers", "acquire", `{` + good + `,"metadata":{"a":1}}`, 400, `metadata "a": must be a text`},
		{"metadata twice", "acquire", `{` + good + `,"metadata":{"a":"1","a":"2"}}`, 400, "is there twice"},
		{"metadata nested", "acquire", `{` + good + `,"metadata":{"a":{"b":"c"}}}`, 400, "must be a text"},
		{"metadata too large", "acquire", bodyOf(good, field("metadata", map[string]string{"a": strings.Repeat("x", 4096)})), 400, "more than the 4096 bytes in all that it may have; leave some out"},
		{"no UTF-8", "acquire", "{\"key\":\"\xff\",\"owner\":\"o\",\"ttl\":\"30s\"}", 400, "no UTF-8: encode it so"},
		{"half a surrogate pair", "acquire", `{"key":"\ud800","owner":"o","ttl":"30s"}`, 400, "surrogate"},
		{"the wrong half", "acquire", `{"key":"\udc00\ud800","owner":"o","ttl":"30s"}`, 400, "surrogate"},
		{"a body too large", "acquire", bodyOf(good, field("metadata", map[string]string{"a": strings.Repeat("x", 70_000)})), 413, "64 KiB"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := &fake{}
			w := ask(config(f), http.MethodPost, "/locks/"+c.path, c.body, nil)
			p := told(t, w)
			if w.Code != c.code || p.Reason != "INVALID" || p.Applied != "no" || !strings.Contains(p.Message, c.says) {
				t.Errorf("%d %+v", w.Code, p)
			}
			if f.asked != nil {
				t.Errorf("asked %v", f.asked)
			}
		})
	}
}

func TestBadReads(t *testing.T) {
	for target, says := range map[string]string{
		"/locks/":                              "key: is empty",
		"/locks/" + strings.Repeat("x", 513):   "key: has 513",
		"/locks/%ff":                           "no UTF-8; encode it so",
		"/locks/%0a":                           "leave them out",
		"/locks/a?stale=1":                     "give true or false",
		"/locks/a?stale":                       "has no value",
		"/locks/a?prefix=b":                    "no parameter",
		"/locks?stale=true&stale=true":         "2 times",
		"/locks?limit=0":                       "from 1 to 1000",
		"/locks?limit=1001":                    "from 1 to 1000",
		"/locks?limit=-1":                      "from 1 to 1000",
		"/locks?prefix=":                       "has no value",
		"/locks?contested=yes":                 "give true or false",
		"/locks?metadata.=x":                   "no parameter",
		"/locks?colour=red":                    "there are: prefix, pattern",
		"/locks?a;b":                           "a semicolon as %3B",
		"/locks?metadata.k=1&metadata.k=2":     "2 times",
		"/locks/a?stale=true&nonsense=1&x=2&y": "",
	} {
		f := &fake{}
		w := ask(config(f), http.MethodGet, target, "", nil)
		if p := told(t, w); w.Code != 400 || p.Reason != "INVALID" || !strings.Contains(p.Message, says) || f.asked != nil {
			t.Errorf("%.40s: %d %+v", target, w.Code, p)
		}
	}
	w := ask(config(&fake{}), http.MethodPost, "/locks/acquire?key=k", "{"+good+"}", nil)
	if p := told(t, w); w.Code != 400 || !strings.Contains(p.Message, "the body") {
		t.Errorf("a query on a write: %d %+v", w.Code, p)
	}
}

func TestContentTypes(t *testing.T) {
	for _, c := range []struct {
		given     string
		unix, tcp bool
	}{
		{"", true, false},
		{"application/json", true, true},
		{"Application/JSON; charset=UTF-8", true, true},
		{"application/json; charset=latin1", false, false},
		{"application/x-www-form-urlencoded", true, false}, // what curl -d says
		{"text/plain", false, false},
		{"multipart/form-data; boundary=x", false, false},
		{"nonsense//", false, false},
	} {
		for _, tcp := range []bool{false, true} {
			f := &fake{answer: &api.AcquireResponse{Lock: heldLock}}
			conf := config(f)
			conf.TCP, conf.Writes = tcp, true
			w := ask(conf, http.MethodPost, "http://127.0.0.1/locks/acquire", "{"+good+"}", func(r *http.Request) {
				if c.given != "" {
					r.Header.Set("Content-Type", c.given)
				}
			})
			want := map[bool]bool{false: c.unix, true: c.tcp}[tcp]
			if taken := w.Code == 200; taken != want {
				t.Errorf("%q over TCP %v: %d %s", c.given, tcp, w.Code, w.Body)
			}
			if !want && (w.Code != 415 || told(t, w).Reason != "INVALID") {
				t.Errorf("%q over TCP %v: %d", c.given, tcp, w.Code)
			}
		}
	}
}

// What a web page could bring a browser to send is refused over TCP.
func TestOverTCP(t *testing.T) {
	for _, c := range []struct {
		name, method, target, origin string
		writes                       bool
		code                         int
	}{
		{"a read", "GET", "http://127.0.0.1:7951/locks/a", "", false, 200},
		{"a read by name", "GET", "http://LOCALHOST:7951/locks/a", "", false, 200},
		{"a read by IPv6", "GET", "http://[::1]:7951/locks/a", "", false, 200},
		{"a read without a port", "GET", "http://[::1]/locks/a", "", false, 200},
		{"a rebound name", "GET", "http://evil.example:7951/locks/a", "", false, 403},
		{"a name like an address", "GET", "http://127.0.0.1.evil.example/locks/a", "", false, 403},
		{"another address", "GET", "http://10.0.0.1:7951/metrics", "", false, 403},
		{"all addresses", "GET", "http://0.0.0.0:7951/locks", "", false, 403},
		{"health under any name", "GET", "http://pod.example/healthz", "", false, 200},
		{"readiness under any name", "GET", "http://pod.example/readyz", "", false, 200},
		{"a write, off", "POST", "http://127.0.0.1:7951/locks/acquire", "", false, 403},
		{"a write, on", "POST", "http://127.0.0.1:7951/locks/acquire", "", true, 200},
		{"a write of a rebound name", "POST", "http://evil.example:7951/locks/acquire", "", true, 403},
		{"a write of a page", "POST", "http://127.0.0.1:7951/locks/acquire", "http://evil.example", true, 403},
		{"a write of a page of another port", "POST", "http://127.0.0.1:7951/locks/acquire", "http://127.0.0.1:8080", true, 403},
		{"a write of a page without origin", "POST", "http://127.0.0.1:7951/locks/acquire", "null", true, 403},
		{"a write of its own origin", "POST", "http://127.0.0.1:7951/locks/acquire", "http://127.0.0.1:7951", true, 200},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := &fake{answer: &api.AcquireResponse{Lock: heldLock}}
			body := "{" + good + "}"
			if c.method == "GET" {
				f.answer, body = &api.GetResponse{Lock: &api.LockInfo{Name: "a", Held: true, Holder: &api.Holder{}}}, ""
			}
			conf := config(f)
			conf.TCP, conf.Writes = true, c.writes
			w := ask(conf, c.method, c.target, body, func(r *http.Request) {
				r.Header.Set("Content-Type", "application/json")
				if c.origin != "" {
					r.Header.Set("Origin", c.origin)
				}
			})
			if w.Code != c.code {
				t.Fatalf("%d %s", w.Code, w.Body)
			}
			if c.code == 403 && (told(t, w).Reason != "DENIED" || f.asked != nil) {
				t.Errorf("asked %v", f.asked)
			}
		})
	}
	f := &fake{answer: &api.AcquireResponse{Lock: heldLock}}
	if w := ask(config(f), "POST", "http://anything/locks/acquire", "{"+good+"}", nil); w.Code != 200 {
		t.Errorf("on the Unix socket any host will do: %d", w.Code)
	}
}

func refusalOf(code codes.Code, why string, applied string, more ...protoadapt.MessageV1) error {
	st, err := status.New(code, "so it is").WithDetails(append([]protoadapt.MessageV1{&errdetails.ErrorInfo{
		Reason: why, Domain: domain, Metadata: map[string]string{
			"applied": applied, "holder_owner": "uid:7", "holder_token": "12", "holder_agent": "a", "holder_session": "ab",
		},
	}}, more...)...)
	if err != nil {
		panic(err)
	}
	return st.Err()
}

func TestEveryReasonHasItsStatus(t *testing.T) {
	for n, name := range api.Reason_name {
		why := api.Reason(n)
		code, ok := statuses[why]
		if !ok {
			t.Errorf("%s has no HTTP status", name)
		}
		if bad := code < 400 || code > 599; bad != (why == api.Reason_REASON_OK) {
			t.Errorf("%s has HTTP status %d", name, code)
		}
		if why == api.Reason_REASON_OK || why == api.Reason_REASON_UNSPECIFIED {
			continue
		}
		w := ask(config(&fake{err: refusalOf(codes.Aborted, reasonName(why), "no")}), "POST", "/locks/acquire", "{"+good+"}", nil)
		if p := told(t, w); w.Code != code || p.Reason != reasonName(why) || p.Applied != "no" || p.Message != "so it is" {
			t.Errorf("%s: %d %+v", name, w.Code, p)
		}
		if retry := w.Header().Get("Retry-After") != ""; retry != (code == 429 || code == 503) {
			t.Errorf("%s: Retry-After %v with %d", name, retry, code)
		}
	}
}

func TestRefusals(t *testing.T) {
	for _, c := range []struct {
		name  string
		err   error
		code  int
		retry string
		want  problem
	}{
		{"an unknown outcome", refusalOf(codes.Unavailable, "NO_QUORUM", "unknown"), 504, "", problem{Reason: "NO_QUORUM", Applied: "unknown"}},
		{"out of time", refusalOf(codes.DeadlineExceeded, "NO_LEADER", "no"), 504, "", problem{Reason: "NO_LEADER", Applied: "no"}},
		{"when to come back", refusalOf(codes.ResourceExhausted, "RATE_LIMITED", "no", &errdetails.RetryInfo{RetryDelay: durationpb.New(1200 * time.Millisecond)}),
			429, "2", problem{Reason: "RATE_LIMITED", Applied: "no"}},
		{"when to come back, soon", refusalOf(codes.ResourceExhausted, "RATE_LIMITED", "no", &errdetails.RetryInfo{RetryDelay: durationpb.New(time.Millisecond)}),
			429, "1", problem{Reason: "RATE_LIMITED", Applied: "no"}},
		{"nobody foresaw it", refusalOf(codes.Internal, "UNSPECIFIED", "unknown"), 500, "", problem{Reason: "UNSPECIFIED", Applied: "unknown"}},
		{"a reason of a later version", refusalOf(codes.Aborted, "BORED", "no"), 500, "", problem{Reason: "BORED", Applied: "no"}},
		{"an error without details", status.Error(codes.Unimplemented, "so it is"), 500, "", problem{Reason: "UNSPECIFIED", Applied: "unknown"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := ask(config(&fake{err: c.err}), "POST", "/locks/acquire", "{"+good+"}", nil)
			p := told(t, w)
			if w.Code != c.code || w.Header().Get("Retry-After") != c.retry || p.Reason != c.want.Reason || p.Applied != c.want.Applied {
				t.Errorf("%d, Retry-After %q, %+v", w.Code, w.Header().Get("Retry-After"), p)
			}
		})
	}
	w := ask(config(&fake{err: refusalOf(codes.Aborted, "HELD", "no")}), "POST", "/locks/acquire", "{"+good+"}", nil)
	if p := told(t, w); p.Holder == nil || *p.Holder != (holder{Owner: "uid:7", Version: 12, Agent: "a", Session: "ab"}) {
		t.Errorf("the holder is told as %+v", p.Holder)
	}
}
