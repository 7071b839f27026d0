package jsonapi

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	api "github.com/raftlock/raftlock/api/raftlock/v1"
)

// fake answers what it is told to, and keeps what it was asked.
type fake struct {
	api.UnimplementedRaftLockServer
	asked  proto.Message
	ctx    context.Context
	answer proto.Message
	err    error
	block  bool // until the request's context ends
}

func called[A proto.Message](f *fake, ctx context.Context, q proto.Message) (a A, err error) {
	f.asked, f.ctx = q, ctx
	if f.block {
		<-ctx.Done()
		return a, ctx.Err()
	}
	if f.err != nil || f.answer == nil {
		return a, f.err
	}
	return f.answer.(A), nil
}

func (f *fake) Get(ctx context.Context, q *api.GetRequest) (*api.GetResponse, error) {
	return called[*api.GetResponse](f, ctx, q)
}

func (f *fake) List(ctx context.Context, q *api.ListRequest) (*api.ListResponse, error) {
	return called[*api.ListResponse](f, ctx, q)
}

func (f *fake) Status(ctx context.Context, q *api.StatusRequest) (*api.StatusResponse, error) {
	return called[*api.StatusResponse](f, ctx, q)
}

func (f *fake) Acquire(ctx context.Context, q *api.AcquireRequest) (*api.AcquireResponse, error) {
	return called[*api.AcquireResponse](f, ctx, q)
}

func (f *fake) Renew(ctx context.Context, q *api.RenewRequest) (*api.RenewResponse, error) {
	return called[*api.RenewResponse](f, ctx, q)
}

func (f *fake) Release(ctx context.Context, q *api.ReleaseRequest) (*api.ReleaseResponse, error) {
	return called[*api.ReleaseResponse](f, ctx, q)
}

var noon = time.Date(2030, 1, 2, 12, 0, 0, 0, time.UTC)

func config(f *fake) Config {
	return Config{
		API: f, Reach: func() api.Reason { return api.Reason_REASON_OK }, Behind: func() uint64 { return 0 }, Now: func() time.Time { return noon },
		Metrics: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "metrics") }),
	}
}

// ask makes one request; change may be nil.
func ask(c Config, method, target, body string, change func(*http.Request)) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	if body == "" {
		r.Body = http.NoBody
	}
	if change != nil {
		change(r)
	}
	w := httptest.NewRecorder()
	New(c).ServeHTTP(w, r)
	return w
}

// told reads a refusal, which has all that one must have.
func told(t *testing.T, w *httptest.ResponseRecorder) problem {
	t.Helper()
	var b errorBody
	d := json.NewDecoder(w.Body)
	d.DisallowUnknownFields()
	if err := d.Decode(&b); err != nil || b.Success || b.Error.Reason == "" || b.Error.Message == "" || b.Error.Applied == "" {
		t.Fatalf("status %d: %v, %+v", w.Code, err, b)
	}
	if got := w.Header().Get("Content-Type"); got != "application/json" {
		t.Errorf("Content-Type %q", got)
	}
	return b.Error
}

func same(t *testing.T, got, want proto.Message) {
	t.Helper()
	if !proto.Equal(got, want) {
		t.Errorf("asked\n%v, not\n%v", got, want)
	}
}

func mustJSON(t *testing.T, w *httptest.ResponseRecorder, want string) {
	t.Helper()
	if got := strings.TrimSpace(w.Body.String()); w.Code != http.StatusOK || got != want {
		t.Errorf("answered %d\n%s\nnot\n%s", w.Code, got, want)
	}
}

func bodyOf(fields ...string) string { return "{" + strings.Join(fields, ",") + "}" }

func field(name string, value any) string {
	v, err := json.Marshal(value)
	if err != nil {
		panic(err)
	}
	return fmt.Sprintf("%q:%s", name, v)
}
