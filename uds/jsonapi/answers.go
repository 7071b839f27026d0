package jsonapi

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	api "github.com/raftlock/raftlock/api/raftlock/v1"
)

// lockBody answers a write. Its field names are fixed (design section 11).
type lockBody struct {
	Success bool `json:"success"`
	Lock    lock `json:"lock"`
}

type lock struct {
	Key   string `json:"key"`
	Owner string `json:"owner"`
	TTL   string `json:"ttl"`
	// ExpiresAt is for people, by the host's wall clock: of a write V, of a read
	// the end of the lease if nothing renews it. Absent once released, and in
	// stale reads.
	ExpiresAt string `json:"expires_at,omitempty"`
	// Version is the fencing token, below 2^53.
	Version uint64 `json:"version"`
}

func answerLock(w http.ResponseWriter, l *api.PlainLock, err error) {
	if err != nil {
		refuse(w, err)
		return
	}
	out := lock{Key: l.GetLock(), Owner: l.GetOwner(), TTL: spanText(l.GetTtlNanos()), Version: l.GetToken()}
	if at := l.GetExpiresUnixNanos(); at != 0 {
		out.ExpiresAt = stamp(time.Unix(0, at))
	}
	answer(w, http.StatusOK, lockBody{Success: true, Lock: out})
}

// readLock is a lock as reads tell of it: the same fields and more.
type readLock struct {
	lock
	LeaseLeft string            `json:"lease_left,omitempty"`
	Agent     string            `json:"agent,omitempty"`
	Session   string            `json:"session,omitempty"`
	Waiters   uint64            `json:"waiters"`
	Revoked   bool              `json:"revoked"`
	Metadata  map[string]string `json:"metadata"`
}

func (h *Handler) readLock(l *api.LockInfo) readLock {
	out := readLock{
		lock:  lock{Key: l.GetName(), Owner: l.GetHolder().GetOwner(), TTL: spanText(l.GetTtlNanos()), Version: l.GetHolder().GetToken()},
		Agent: l.GetHolder().GetAgent(), Session: hex.EncodeToString(l.GetHolder().GetSession()),
		Waiters: l.GetWaiters(), Revoked: l.GetRevoked(), Metadata: l.GetMetadata(),
	}
	if out.Metadata == nil {
		out.Metadata = map[string]string{}
	}
	if l.LeaseLeftNanos != nil {
		left := time.Duration(l.GetLeaseLeftNanos())
		out.LeaseLeft = spanText(uint64(left.Round(time.Millisecond)))
		out.ExpiresAt = stamp(h.c.Now().Add(left))
	}
	return out
}

// spanText is a time in seconds, "30s" or "0.2s", as Protobuf writes one in JSON:
// what reads "30s" reads it, and no language has to know of hours.
func spanText(nanos uint64) string {
	text := fmt.Sprintf("%d.%09d", nanos/1e9, nanos%1e9)
	return strings.TrimRight(strings.TrimRight(text, "0"), ".") + "s"
}

func stamp(at time.Time) string { return at.UTC().Format("2006-01-02T15:04:05.000Z07:00") }

func answer(w http.ResponseWriter, code int, body any) { send(w, code, encoded(body)) }

func encoded(body any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(body) // it is ours, and has nothing that is no JSON
	return b.Bytes()
}

func send(w http.ResponseWriter, code int, body []byte) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(code)
	_, _ = w.Write(body) // the caller hung up: nobody is there to be told
}
