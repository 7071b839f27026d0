package jsonapi

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"unicode/utf8"

	api "github.com/raftlock/raftlock/api/raftlock/v1"
)

// What is understood is JSON, within bounds, and means to the standard decoder
// what it means here.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		`{"key":"k","owner":"o","ttl":"30s"}`,
		`{"key":"a/b","owner":"o","ttl":"1m","wait":"5s","priority":-2,"metadata":{"a":"1"},"request_id":"r"}`,
		`{"key":"\ud83d\ude00\\u","owner":"\"","ttl":"30s"}`, `{"key":"k","owner":"o","ttl":"30s"}x`, `{"key":"\ud800"}`, `[{}]`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		q, err := parse(body, acquireFields)
		if err != nil {
			return
		}
		var plain struct {
			Key       string            `json:"key"`
			Owner     string            `json:"owner"`
			RequestID string            `json:"request_id"`
			Metadata  map[string]string `json:"metadata"`
			Priority  int32             `json:"priority"`
			TTL       string            `json:"ttl"`
			Wait      string            `json:"wait"`
		}
		d := json.NewDecoder(bytes.NewReader(body))
		d.DisallowUnknownFields()
		if err := d.Decode(&plain); err != nil || !json.Valid(body) {
			t.Fatalf("%q is understood, and is none: %v", body, err)
		}
		if q.key != plain.Key || q.owner != plain.Owner || q.requestID != plain.RequestID || q.priority != plain.Priority {
			t.Fatalf("%q is understood as %+v", body, q)
		}
		for k, v := range plain.Metadata {
			if q.metadata[k] != v || strings.Contains(k+v, "\uFFFD") && !bytes.Contains(body, []byte("\uFFFD")) && !bytes.Contains(bytes.ToLower(body), []byte(`\ufffd`)) {
				t.Fatalf("%q: metadata %q", body, q.metadata)
			}
		}
		for _, name := range []string{q.key, q.owner} {
			if name == "" || len(name) > nameBytesMax || !utf8.ValidString(name) {
				t.Fatalf("%q has the name %q", body, name)
			}
			if strings.Contains(name, "\uFFFD") && !bytes.Contains(body, []byte("\uFFFD")) && !bytes.Contains(bytes.ToLower(body), []byte(`\ufffd`)) {
				t.Fatalf("%q: a character was replaced in %q", body, name)
			}
		}
		if q.ttl == nil || *q.ttl < uint64(ttlMin) || *q.ttl > uint64(ttlMax) {
			t.Fatalf("%q has a TTL of %v", body, q.ttl)
		}
	})
}

// However a lock's name is written into a path, it is that lock that is asked
// for, or none.
func FuzzKey(f *testing.F) {
	for _, seed := range []string{"a", "a/b", "a//b", "../x", "%", "%2F", "acquire", "a?b#c", "é", ".", "/"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, key string) {
		for _, path := range []string{url.PathEscape(key), strings.ReplaceAll(url.PathEscape(key), "%2F", "/")} {
			r, err := http.NewRequest(http.MethodGet, "http://localhost/locks/"+path, nil)
			if err != nil {
				continue
			}
			api := &fake{answer: &api.GetResponse{}}
			w := ask(config(api), http.MethodGet, "/", "", func(q *http.Request) { q.URL = r.URL })
			if name("key", key) != nil {
				if w.Code != http.StatusBadRequest || api.asked != nil {
					t.Fatalf("%q: %d, asked %v", path, w.Code, api.asked)
				}
				continue
			}
			if got := asGet(t, api).Lock; got != key {
				t.Fatalf("%q asks for %q, not %q", path, got, key)
			}
		}
	})
}

func asGet(t *testing.T, f *fake) *api.GetRequest {
	t.Helper()
	q, ok := f.asked.(*api.GetRequest)
	if !ok {
		t.Fatalf("asked %v", f.asked)
	}
	return q
}
