package jsonapi

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"time"

	api "github.com/raftlock/raftlock/api/raftlock/v1"
)

const (
	// bodyBytesMax bounds a request's body, and bodyTimeout how long it may take
	// to come.
	bodyBytesMax = 64 << 10
	bodyTimeout  = 10 * time.Second
	// plainBodyBytesMax bounds the body of a request without metadata: its names,
	// all escaped, have 6 KiB. It is read at once, so it must not cost much.
	plainBodyBytesMax = 16 << 10
	// answerTimeout is for what is asked, which the API bounds by less, and for the
	// writing of the answer; a wait comes on top.
	answerTimeout = 30 * time.Second
)

// Config is what a Handler is made of.
type Config struct {
	// API does what is asked. It is given the request's context, and refuses with
	// gRPC statuses that carry an ErrorInfo of domain "raftlock".
	API api.RaftLockServer
	// Gate says when a request may go on.
	Gate Gate
	// Reach tells whether a leader is reached, for /readyz. It must be quick.
	Reach func() api.Reason
	// Behind is how many entries of the log a voter lacks that catches up, else 0;
	// for /readyz. It must be quick.
	Behind func() uint64
	// Metrics serves /metrics; nil: nothing is there.
	Metrics http.Handler
	// Now reads the wall clock.
	Now func() time.Time
	// TCP: whoever is on this host may connect, and a web page in its browser
	// may try to.
	TCP bool
	// Writes: over TCP, whether locks may be taken, renewed and released.
	Writes bool
}

// Gate says when a request may go on, so that callers of this package are bounded
// from their first byte to their last, and not only while the API is at it. The
// contexts that it returns tell the API what was done already. Releases and
// renewals are never kept at it.
type Gate interface {
	// EnterRead and EnterAcquire count a request in before anything else is done
	// about it; leave is called when its answer was written.
	EnterRead(context.Context) (in context.Context, leave func(), err error)
	EnterAcquire(context.Context) (in context.Context, leave func(), err error)
	// Parse waits until a body may be read for what it says; done is called when it was.
	Parse(context.Context) (done func(), err error)
	// Page waits until the API may be asked for a page; rest is called when its
	// answer was made, done when it was written. Done alone will do for both.
	Page(ctx context.Context, stale bool) (in context.Context, rest, done func(), err error)
}

// open is the Gate of who bounds nothing.
type open struct{}

func (open) EnterRead(ctx context.Context) (context.Context, func(), error) {
	return ctx, func() {}, nil
}

func (open) EnterAcquire(ctx context.Context) (context.Context, func(), error) {
	return ctx, func() {}, nil
}

func (open) Parse(context.Context) (func(), error) { return func() {}, nil }

func (open) Page(ctx context.Context, _ bool) (in context.Context, rest, done func(), err error) {
	return ctx, func() {}, func() {}, nil
}

// Handler serves the paths of the package comment.
type Handler struct {
	c     Config
	fixed map[string]route
	get   http.HandlerFunc
}

// route is a path and what each method does there.
type route map[string]http.HandlerFunc

// New makes a Handler.
func New(c Config) *Handler {
	if c.Gate == nil {
		c.Gate = open{}
	}
	h := &Handler{c: c}
	h.fixed = map[string]route{
		"/locks":        {http.MethodGet: entered(c.Gate.EnterRead, h.list)},
		"/cluster/info": {http.MethodGet: h.info},
		"/healthz":      {http.MethodGet: h.alive},
		"/readyz":       {http.MethodGet: h.ready},
	}
	if c.Metrics != nil {
		h.fixed["/metrics"] = route{http.MethodGet: c.Metrics.ServeHTTP}
	}
	acquire := entered(c.Gate.EnterAcquire, h.acquire)
	h.get = entered(c.Gate.EnterRead, h.getLock)
	for path, write := range map[string]http.HandlerFunc{"acquire": acquire, "renew": h.renew, "release": h.release} {
		// A lock may bear one of these names: its GET is a read like any other.
		h.fixed["/locks/"+path] = route{http.MethodPost: h.writes(write), http.MethodGet: h.get}
	}
	return h
}

// ServeHTTP implements http.Handler. Paths are looked up as they came: a mux
// would clean "a//b" and "a/../b", which are names of locks.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	deadlines(w, r)
	path := r.URL.EscapedPath()
	at, ok := h.fixed[path]
	pattern := path
	if !ok && strings.HasPrefix(path, "/locks/") {
		at, ok = route{http.MethodGet: h.get}, true
		pattern = "/locks/{key}"
	}
	if h.c.TCP && path != "/healthz" && path != "/readyz" && !loopbackHost(r.Host) {
		refuse(w, denied("the Host header names no loopback host, as that of a web page would: ask http://127.0.0.1 or http://localhost"))
		return
	}
	method := r.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	switch serve := at[method]; {
	case !ok:
		refuse(w, unknownPath)
	case serve == nil:
		w.Header().Set("Allow", at.allow())
		refuse(w, failure{http.StatusMethodNotAllowed, invalid("%s is not for this path: it takes %s", r.Method, at.allow())})
	default:
		r.Pattern = method + " " + pattern // what calls are counted under, as a mux would say
		serve(w, r)
	}
}

func (t route) allow() string {
	allowed := []string{}
	if t[http.MethodGet] != nil {
		allowed = append(allowed, http.MethodGet, http.MethodHead)
	}
	if t[http.MethodPost] != nil {
		allowed = append(allowed, http.MethodPost)
	}
	return strings.Join(allowed, ", ")
}

// entered counts a request in until it is answered.
func entered(enter func(context.Context) (context.Context, func(), error), next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		in, leave, err := enter(r.Context())
		if err != nil {
			refuse(w, err)
			return
		}
		defer leave()
		next(w, r.WithContext(in))
	}
}

// writes guards what changes something.
func (h *Handler) writes(write http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if no := h.mayWrite(r); no != nil {
			refuse(w, no)
			return
		}
		if r.URL.RawQuery != "" {
			refuse(w, invalid("the query %q: what is asked goes into the body", r.URL.RawQuery))
			return
		}
		write(w, r)
	}
}

// keyOf is the lock that a path names.
func keyOf(r *http.Request) (string, error) {
	rest := strings.TrimPrefix(r.URL.EscapedPath(), "/locks/")
	key, err := url.PathUnescape(rest)
	if err != nil {
		return "", invalid("the path: %v; write a percent sign as %%25", err)
	}
	if err := name("key", key); err != nil {
		return "", err
	}
	return key, nil
}

func (h *Handler) acquire(w http.ResponseWriter, r *http.Request) {
	q, err := h.decodeInTurn(w, r, acquireFields)
	if err != nil {
		refuse(w, err)
		return
	}
	ask := &api.AcquireRequest{
		Lock: q.key, Owner: q.owner, TtlNanos: q.ttl, WaitNanos: q.wait, Priority: q.priority,
		Metadata: q.metadata, RequestId: q.requestID,
	}
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(time.Duration(ask.GetWaitNanos()) + answerTimeout))
	a, err := h.c.API.Acquire(r.Context(), ask)
	answerLock(w, a.GetLock(), err)
}

func (h *Handler) renew(w http.ResponseWriter, r *http.Request) {
	q, err := decode(w, r, renewFields)
	if err != nil {
		refuse(w, err)
		return
	}
	a, err := h.c.API.Renew(r.Context(), &api.RenewRequest{Lock: q.key, Owner: q.owner, TtlNanos: q.ttl, Token: q.version})
	answerLock(w, a.GetLock(), err)
}

func (h *Handler) release(w http.ResponseWriter, r *http.Request) {
	q, err := decode(w, r, releaseFields)
	if err != nil {
		refuse(w, err)
		return
	}
	a, err := h.c.API.Release(r.Context(), &api.ReleaseRequest{Lock: q.key, Owner: q.owner, Token: q.version})
	answerLock(w, a.GetLock(), err)
}

// deadlines bounds a request on its connection, whatever the one before it left
// there. Once all of it was read, a read on the connection hears that the caller
// hung up, and a deadline for that would end the request. A writer that has no
// deadlines is a test's.
func deadlines(w http.ResponseWriter, r *http.Request) {
	c := http.NewResponseController(w)
	_ = c.SetWriteDeadline(time.Now().Add(answerTimeout))
	if r.Body == http.NoBody || r.Body == nil {
		heardAll(w)
	} else {
		_ = c.SetReadDeadline(time.Now().Add(bodyTimeout))
	}
}

func heardAll(w http.ResponseWriter) { _ = http.NewResponseController(w).SetReadDeadline(time.Time{}) }
