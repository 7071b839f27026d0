package jsonapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Bounds of what may be asked; the state machine has the same.
const (
	nameBytesMax     = 512
	metadataBytesMax = 4 << 10
	ttlMin           = 200 * time.Millisecond
	ttlMax           = 24 * time.Hour
	versionLimit     = 1 << 53
)

// Which fields each request has, and which it must have.
type fields struct {
	verb        string
	must, other []string
}

var (
	acquireFields = fields{"acquire", []string{"key", "owner", "ttl"}, []string{"wait", "priority", "metadata", "request_id"}}
	renewFields   = fields{"renew", []string{"key", "owner"}, []string{"ttl", "version"}}
	releaseFields = fields{"release", []string{"key", "owner"}, []string{"ttl", "version"}}
)

// asked is the body of a request. Absent fields are nil, or the zero that the
// API takes for absent, which none of them may be given as.
type asked struct {
	key, owner, requestID string
	ttl, wait             *uint64
	priority              int32
	metadata              map[string]string
	version               uint64
}

// takers read one field each.
var takers = map[string]func(*asked, json.RawMessage) error{
	"key":        func(q *asked, v json.RawMessage) (err error) { q.key, err = nameOf("key", v); return err },
	"owner":      func(q *asked, v json.RawMessage) (err error) { q.owner, err = nameOf("owner", v); return err },
	"request_id": func(q *asked, v json.RawMessage) (err error) { q.requestID, err = nameOf("request_id", v); return err },
	"ttl":        func(q *asked, v json.RawMessage) (err error) { q.ttl, err = span("ttl", v, ttlMin); return err },
	"wait":       func(q *asked, v json.RawMessage) (err error) { q.wait, err = span("wait", v, 0); return err },
	"priority":   func(q *asked, v json.RawMessage) (err error) { q.priority, err = priorityOf(v); return err },
	"metadata":   func(q *asked, v json.RawMessage) (err error) { q.metadata, err = metadataOf(v); return err },
	"version":    func(q *asked, v json.RawMessage) (err error) { q.version, err = versionOf(v); return err },
}

// decodeInTurn is decode for what may be costly to read. The body is there before
// it has its turn: nobody waits for who sends slowly.
func (h *Handler) decodeInTurn(w http.ResponseWriter, r *http.Request, f fields) (*asked, error) {
	body, err := received(w, r, bodyBytesMax)
	if err != nil {
		return nil, err
	}
	done, err := h.c.Gate.Parse(r.Context())
	if err != nil {
		return nil, err
	}
	defer done()
	return parse(body, f)
}

func decode(w http.ResponseWriter, r *http.Request, f fields) (*asked, error) {
	body, err := received(w, r, plainBodyBytesMax)
	if err != nil {
		return nil, err
	}
	return parse(body, f)
}

// received reads the body of a request to its end: only then does net/http hear
// when the caller hangs up.
func received(w http.ResponseWriter, r *http.Request, bytesMax int64) ([]byte, error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, bytesMax))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return nil, failure{http.StatusRequestEntityTooLarge, invalid("the body has more than %d KiB: send less", bytesMax>>10)}
	case err != nil:
		return nil, invalid("the body cannot be read (%v): send it again", err)
	}
	heardAll(w)
	return body, nil
}

func parse(body []byte, f fields) (*asked, error) {
	if err := sound(body); err != nil {
		return nil, err
	}
	q := &asked{}
	seen, err := object(body, "the body", func(field string, v json.RawMessage) error {
		if !slices.Contains(f.must, field) && !slices.Contains(f.other, field) {
			return invalid("%s: %s has no such field; it takes %s", quoted(field), f.verb, f.list())
		}
		return takers[field](q, v)
	})
	if err != nil {
		return nil, err
	}
	for _, field := range f.must {
		if !seen[field] {
			return nil, invalid("%s: must be given; %s takes %s", field, f.verb, f.list())
		}
	}
	return q, nil
}

func (f fields) list() string {
	return strings.Join(f.must, ", ") + " and optionally " + strings.Join(f.other, ", ")
}

// sound refuses text that a decoder would silently replace: two names would
// become one lock.
func sound(body []byte) error {
	if !utf8.Valid(body) {
		return invalid("the body is no UTF-8: encode it so")
	}
	for i := 0; i < len(body); i++ {
		if body[i] != '\\' {
			continue
		}
		i++
		high, ok := escape(body, i)
		if !ok || high < 0xd800 || high > 0xdfff {
			continue
		}
		low, ok := escape(body, i+6)
		if high > 0xdbff || !ok || body[i+5] != '\\' || low < 0xdc00 || low > 0xdfff {
			return invalid(`the body has half of a surrogate pair (\u%04x): write the character itself`, high)
		}
		i += 6
	}
	return nil
}

// escape is the number of a \u escape whose u is at i.
func escape(body []byte, i int) (uint64, bool) {
	if i+5 > len(body) || body[i] != 'u' {
		return 0, false
	}
	n, err := strconv.ParseUint(string(body[i+1:i+5]), 16, 16)
	return n, err == nil
}

// object reads one JSON object, and nothing after it.
func object(text []byte, what string, take func(field string, v json.RawMessage) error) (seen map[string]bool, err error) {
	d := json.NewDecoder(bytes.NewReader(text))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, invalid("%s must be a JSON object, such as {\"key\":\"jobs\",\"owner\":\"me\",\"ttl\":\"30s\"}", what)
	}
	seen = make(map[string]bool)
	for d.More() {
		t, err := d.Token()
		field, ok := t.(string)
		var v json.RawMessage
		if err == nil && ok {
			err = d.Decode(&v)
		}
		switch {
		case err != nil || !ok:
			return nil, notJSON(what, err)
		case seen[field]:
			return nil, invalid("%s: is there twice, leave one", quoted(field))
		}
		seen[field] = true
		if err := take(field, v); err != nil {
			return nil, err
		}
	}
	if _, err := d.Token(); err != nil {
		return nil, notJSON(what, err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, invalid("%s goes on after its object: send one object a request", what)
	}
	return seen, nil
}

func notJSON(what string, err error) error {
	if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return invalid("%s is no JSON (%v): send one object, with quotes around names and texts", what, err)
}

func text(field string, v json.RawMessage) (s string, err error) {
	if len(v) == 0 || v[0] != '"' || json.Unmarshal(v, &s) != nil {
		return "", invalid("%s: must be a text in quotes", field)
	}
	return s, nil
}

func nameOf(field string, v json.RawMessage) (string, error) {
	s, err := text(field, v)
	if err != nil {
		return "", err
	}
	return s, name(field, s)
}

// name is what a lock, an owner and a request may be called.
func name(field, s string) error {
	switch {
	case s == "":
		return invalid("%s: is empty; a name has 1 to %d bytes", field, nameBytesMax)
	case len(s) > nameBytesMax:
		return invalid("%s: has %d bytes; a name has 1 to %d", field, len(s), nameBytesMax)
	case !utf8.ValidString(s):
		return invalid("%s: is no UTF-8; encode it so", field)
	case strings.ContainsFunc(s, func(r rune) bool { return r < 0x20 || r >= 0x7f && r < 0xa0 }):
		return invalid("%s: has control characters; leave them out", field)
	}
	return nil
}

// span reads a length of time. The least may be had.
func span(field string, v json.RawMessage, least time.Duration) (*uint64, error) {
	s, err := text(field, v)
	if err != nil {
		return nil, invalid(`%s: must be a text with a unit, such as "30s"`, field)
	}
	d, err := time.ParseDuration(s)
	switch {
	case err != nil:
		return nil, invalid(`%s: %s is no length of time; give a number and a unit, such as "30s", "1m30s" or "500ms"`, field, quoted(s))
	case d < least || d > ttlMax:
		return nil, invalid("%s: %s is out of bounds; give a length of time between %v and %v", field, quoted(s), least, ttlMax)
	}
	nanos := uint64(d)
	return &nanos, nil
}

func priorityOf(v json.RawMessage) (int32, error) {
	n, err := strconv.ParseInt(string(v), 10, 32)
	if err != nil {
		return 0, invalid("priority: must be a whole number between -2147483648 and 2147483647; higher goes first")
	}
	return int32(n), nil
}

func versionOf(v json.RawMessage) (uint64, error) {
	n, err := strconv.ParseUint(string(v), 10, 64)
	if err != nil || n == 0 || n >= versionLimit {
		return 0, invalid("version: must be the whole number that acquire answered; leave it out for whichever is held")
	}
	return n, nil
}

func metadataOf(v json.RawMessage) (map[string]string, error) {
	if len(v) == 0 || v[0] != '{' {
		return nil, invalid(`metadata: must be an object of texts, such as {"host":"db1"}`)
	}
	out, size := make(map[string]string), 0
	_, err := object(v, "metadata", func(key string, v json.RawMessage) error {
		if err := name("metadata", key); err != nil {
			return err
		}
		s, err := text("metadata "+quoted(key), v)
		if err != nil {
			return err
		}
		out[key] = s
		if size += len(key) + len(s); size > metadataBytesMax {
			return invalid("metadata: has more than the %d bytes in all that it may have; leave some out", metadataBytesMax)
		}
		return nil
	})
	return out, err
}

// quoted is a caller's text in an error, cut short.
func quoted(s string) string {
	const shown = 40
	if len(s) > shown {
		s = strings.ToValidUTF8(s[:shown], "") + "..."
	}
	return fmt.Sprintf("%q", s)
}
