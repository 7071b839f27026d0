package raftlock

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	raftlockv1 "github.com/raftlock/raftlock/api/raftlock/v1"
)

// clerk answers plain requests, each with the next of its answers.
type clerk struct {
	raftlockv1.UnimplementedRaftLockServer
	answers  []error       // nil: granted
	muted    chan struct{} // closed by the request that is not answered
	acquires []*raftlockv1.AcquireRequest
	renews   []*raftlockv1.RenewRequest
	releases []*raftlockv1.ReleaseRequest
}

var errMute = errors.New("no answer")

var plainHeld = &raftlockv1.PlainLock{Lock: "a", Owner: "me", Token: 7, TtlNanos: 30e9, DeadlineNanos: 100e9, ExpiresUnixNanos: 1e9}

func (c *clerk) answer(ctx context.Context) error {
	err := c.answers[0]
	c.answers = c.answers[1:]
	if err == errMute {
		close(c.muted)
		<-ctx.Done()
	}
	return err
}

func (c *clerk) Acquire(ctx context.Context, r *raftlockv1.AcquireRequest) (*raftlockv1.AcquireResponse, error) {
	c.acquires = append(c.acquires, r)
	return &raftlockv1.AcquireResponse{Lock: plainHeld}, c.answer(ctx)
}

func (c *clerk) Renew(ctx context.Context, r *raftlockv1.RenewRequest) (*raftlockv1.RenewResponse, error) {
	c.renews = append(c.renews, r)
	return &raftlockv1.RenewResponse{Lock: plainHeld}, c.answer(ctx)
}

func (c *clerk) Release(ctx context.Context, r *raftlockv1.ReleaseRequest) (*raftlockv1.ReleaseResponse, error) {
	c.releases = append(c.releases, r)
	return &raftlockv1.ReleaseResponse{Lock: &raftlockv1.PlainLock{Lock: "a", Owner: "me", Token: 7, TtlNanos: 30e9}}, c.answer(ctx)
}

// attend starts a clerk and a client of it, whose clock stands still.
func attend(t *testing.T, answers ...error) (*clerk, *Client) {
	t.Helper()
	path := socketPath(t)
	lis, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	c, server := &clerk{answers: answers, muted: make(chan struct{})}, grpc.NewServer()
	raftlockv1.RegisterRaftLockServer(server, c)
	go func() { _ = server.Serve(lis) }()
	t.Cleanup(server.Stop)
	client, err := Dial(t.Context(), WithSocket(path), WithClock(func() time.Duration { return 40 * time.Second }))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return c, client
}

func refusalOf(t *testing.T, code codes.Code, reason, applied string) error {
	t.Helper()
	st, err := status.New(code, "the agent's words; applied: "+applied+"; try again").WithDetails(&errdetails.ErrorInfo{
		Domain: errorDomain, Reason: reason, Metadata: map[string]string{"applied": applied}})
	if err != nil {
		t.Fatal(err)
	}
	return st.Err()
}

var errBroke = status.Error(codes.Unavailable, "the connection broke")

func TestPlainRequests(t *testing.T) {
	server, c := attend(t, nil, nil, nil)
	got, err := c.Acquire(soon(t), PlainAcquire{Lock: "a", Owner: "me", TTL: time.Minute, Wait: time.Second, Priority: 3,
		Metadata: map[string]string{"job": "7"}, RequestID: "r1"})
	if err != nil || got.Name != "a" || got.Owner != "me" || got.Token != 7 || got.TTL != 30*time.Second ||
		got.Deadline != 100*time.Second || !got.Expires.Equal(time.Unix(1, 0)) || !got.Valid() {
		t.Errorf("%+v, %v", got, err)
	}
	text, err := json.Marshal(got)
	want := `{"name":"a","owner":"me","token":7,"deadline_nanos":100000000000,"expires_at":"1970-01-01T00:00:01Z","ttl":"30s"}`
	if err != nil || string(text) != want {
		t.Errorf("%s, %v; want %s", text, err, want)
	}
	if text, err := json.Marshal(PlainLock{Name: "a"}); err != nil || strings.Contains(string(text), "expires_at") {
		t.Errorf("released, in JSON: %s, %v", text, err)
	}
	if r := server.acquires[0]; r.Lock != "a" || r.Owner != "me" || r.GetTtlNanos() != 60e9 || r.GetWaitNanos() != 1e9 ||
		r.Priority != 3 || r.Metadata["job"] != "7" || r.RequestId != "r1" {
		t.Errorf("%v", r)
	}
	if _, err := c.Renew(soon(t), PlainRenew{Lock: "a", Owner: "me", TTL: time.Second, Token: 7}); err != nil {
		t.Error(err)
	}
	if r := server.renews[0]; r.Lock != "a" || r.Owner != "me" || r.GetTtlNanos() != 1e9 || r.Token != 7 {
		t.Errorf("%v", r)
	}
	got, err = c.Release(soon(t), PlainRelease{Lock: "a", Owner: "me", Token: 7})
	if r := server.releases[0]; err != nil || got.Valid() || r.Lock != "a" || r.Owner != "me" || r.Token != 7 {
		t.Errorf("%v, %+v, %v", err, got, r)
	}
}

// What is not given is not sent: the agent has the defaults.
func TestPlainRequestsLeaveOut(t *testing.T) {
	server, c := attend(t, nil, nil)
	if _, err := c.Acquire(soon(t), PlainAcquire{Lock: "a", Owner: "me"}); err != nil {
		t.Fatal(err)
	}
	if r := server.acquires[0]; r.TtlNanos != nil || r.WaitNanos != nil || r.RequestId != "" {
		t.Errorf("%v", r)
	}
	if _, err := c.Renew(soon(t), PlainRenew{Lock: "a", Owner: "me"}); err != nil {
		t.Fatal(err)
	}
	if r := server.renews[0]; r.TtlNanos != nil || r.Token != 0 {
		t.Errorf("%v", r)
	}
}

// A wait whose connection broke is asked for again by its name: where its agent
// died, that keeps its place in the queue.
func TestPlainWaitIsRepeatedByItsName(t *testing.T) {
	server, c := attend(t, errBroke, errBroke, nil)
	if _, err := c.Acquire(soon(t), PlainAcquire{Lock: "a", Owner: "me", Wait: time.Minute}); err != nil {
		t.Fatal(err)
	}
	first := server.acquires[0].RequestId
	for _, r := range server.acquires {
		if len(r.RequestId) != 32 || r.RequestId != first || r.GetWaitNanos() > 60e9 {
			t.Errorf("%v", r)
		}
	}
	if len(server.acquires) != 3 {
		t.Errorf("%d requests", len(server.acquires))
	}
}

func TestPlainErrors(t *testing.T) {
	notHeld := refusalOf(t, codes.FailedPrecondition, "NOT_HELD", "no")
	noLeader := refusalOf(t, codes.Unavailable, "NO_LEADER", "no")
	for _, c := range []struct {
		name    string
		answers []error
		want    error
		applied Applied
	}{
		{"told", []error{notHeld}, ErrNotHeld, AppliedNo},
		{"told after a break: it may have worked", []error{errBroke, notHeld}, ErrNotHeld, AppliedUnknown},
		{"told after a break that the repetition was not applied", []error{errBroke, noLeader}, ErrNoLeader, AppliedUnknown},
		{"told that nobody knows", []error{refusalOf(t, codes.Unavailable, "NO_LEADER", "unknown")}, ErrNoLeader, AppliedUnknown},
		{"not answered", []error{errMute}, ErrCancelled, AppliedUnknown},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, client := attend(t, c.answers...)
			ctx := soon(t)
			if slices.Contains(c.answers, errMute) {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, 100*time.Millisecond)
				defer cancel()
			}
			_, err := client.Release(ctx, PlainRelease{Lock: "a", Owner: "me", Token: 7})
			var failed *Error
			if !errors.Is(err, c.want) || !errors.As(err, &failed) || failed.Applied != c.applied {
				t.Errorf("%v", err)
			}
			if text := fmt.Sprint(err); strings.HasSuffix(text, "(applied: unknown)") != (c.applied == AppliedUnknown) || strings.Contains(text, "applied: no") && c.applied != AppliedNo {
				t.Errorf("the text of one whose effect is %q: %s", c.applied, text)
			}
		})
	}
	t.Run("the client is closed meanwhile", func(t *testing.T) {
		server, client := attend(t, errMute)
		go func() {
			<-server.muted
			_ = client.Close()
		}()
		_, err := client.Release(soon(t), PlainRelease{Lock: "a", Owner: "me", Token: 7})
		var failed *Error
		if !errors.Is(err, ErrClosed) || !errors.As(err, &failed) || failed.Applied != AppliedUnknown || !strings.Contains(err.Error(), "(applied: unknown)") {
			t.Errorf("%v", err)
		}
	})
	t.Run("nobody on the socket: not even sent", func(t *testing.T) {
		path := socketPath(t)
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		_, err := clientOf(t, path).Acquire(ctx, PlainAcquire{Lock: "a", Owner: "me"})
		var failed *Error
		if !errors.Is(err, ErrCancelled) || !errors.As(err, &failed) || failed.Applied != AppliedNo || !strings.Contains(err.Error(), path) {
			t.Errorf("%v", err)
		}
	})
}

// A release without a token is not repeated when the connection broke: it may
// have been applied, and another process of the owner may have been granted the
// lock since. A repetition would release that grant, under its V.
func TestPlainReleaseWithoutATokenIsAskedOnce(t *testing.T) {
	server, c := attend(t, errBroke, nil)
	_, err := c.Release(soon(t), PlainRelease{Lock: "a", Owner: "me"})
	var failed *Error
	if !errors.Is(err, ErrCancelled) || !errors.As(err, &failed) || failed.Applied != AppliedUnknown || !strings.Contains(err.Error(), "(applied: unknown)") {
		t.Errorf("%v", err)
	}
	if n := len(server.releases); n != 1 {
		t.Errorf("asked %d times", n)
	}
	// What names the token, and what gives nothing up, is repeated.
	server, c = attend(t, errBroke, nil, errBroke, nil)
	if _, err := c.Release(soon(t), PlainRelease{Lock: "a", Owner: "me", Token: 7}); err != nil || len(server.releases) != 2 {
		t.Errorf("released: %v, asked %d times", err, len(server.releases))
	}
	if _, err := c.Renew(soon(t), PlainRenew{Lock: "a", Owner: "me"}); err != nil || len(server.renews) != 2 {
		t.Errorf("renewed: %v, asked %d times", err, len(server.renews))
	}
}

func TestPlainRequestsAreBounded(t *testing.T) {
	_, c := attend(t) // nothing is sent
	for _, test := range []struct {
		name string
		ask  PlainAcquire
	}{
		{"no owner", PlainAcquire{Lock: "a"}},
		{"no lock", PlainAcquire{Owner: "me"}},
		{"an owner that is no UTF-8", PlainAcquire{Lock: "a", Owner: "\xff"}},
		{"a small TTL", PlainAcquire{Lock: "a", Owner: "me", TTL: TTLMin - 1}},
		{"a negative wait", PlainAcquire{Lock: "a", Owner: "me", Wait: -1}},
		{"much metadata", PlainAcquire{Lock: "a", Owner: "me", Metadata: map[string]string{"k": strings.Repeat("x", metadataBytesMax)}}},
		{"metadata that is no UTF-8", PlainAcquire{Lock: "a", Owner: "me", Metadata: map[string]string{"k": "\xff"}}},
		{"a request id that is no UTF-8", PlainAcquire{Lock: "a", Owner: "me", RequestID: "\xff"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if _, err := c.Acquire(soon(t), test.ask); !errors.Is(err, ErrInvalid) {
				t.Error(err)
			}
		})
	}
	if _, err := c.Renew(soon(t), PlainRenew{Lock: "a"}); !errors.Is(err, ErrInvalid) {
		t.Error(err)
	}
	if _, err := c.Release(soon(t), PlainRelease{Owner: "me"}); !errors.Is(err, ErrInvalid) {
		t.Error(err)
	}
}
