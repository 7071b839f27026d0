package raftlock

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	raftlockv1 "github.com/raftlock/raftlock/api/raftlock/v1"
)

// librarian answers reads.
type librarian struct {
	raftlockv1.UnimplementedRaftLockServer
	get    func(context.Context, *raftlockv1.GetRequest) (*raftlockv1.GetResponse, error)
	list   func(*raftlockv1.ListRequest) (*raftlockv1.ListResponse, error)
	status *raftlockv1.StatusResponse
}

func (l *librarian) Get(ctx context.Context, r *raftlockv1.GetRequest) (*raftlockv1.GetResponse, error) {
	return l.get(ctx, r)
}

func (l *librarian) List(_ context.Context, r *raftlockv1.ListRequest) (*raftlockv1.ListResponse, error) {
	return l.list(r)
}

func (l *librarian) Status(context.Context, *raftlockv1.StatusRequest) (*raftlockv1.StatusResponse, error) {
	return l.status, nil
}

// serve listens at path until the test's end, or stop.
func (l *librarian) serve(t *testing.T, path string) (stop func()) {
	t.Helper()
	lis, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	raftlockv1.RegisterRaftLockServer(server, l)
	go func() { _ = server.Serve(lis) }()
	t.Cleanup(server.Stop)
	return server.Stop
}

func clientOf(t *testing.T, path string) *Client {
	t.Helper()
	c, err := Dial(t.Context(), WithSocket(path))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func socketPath(t *testing.T) string { return filepath.Join(t.TempDir(), "a.sock") }

func soon(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

var (
	heldLock = &raftlockv1.LockInfo{Name: "a", Held: true, Waiters: 2, Revoked: true, TtlNanos: 10e9,
		Metadata: map[string]string{"job": "7"}, Holder: &raftlockv1.Holder{
			Session: []byte{0xab, 0xcd}, Owner: "uid:1000", Agent: "n1", Token: 33}}
	heldInfo = LockInfo{Name: "a", Held: true, Token: 33, Owner: "uid:1000", Agent: "n1", Session: "abcd", Waiters: 2,
		Revoked: true, Metadata: map[string]string{"job": "7"}, TTL: 10 * time.Second}
)

func TestGet(t *testing.T) {
	path := socketPath(t)
	l := &librarian{get: func(_ context.Context, r *raftlockv1.GetRequest) (*raftlockv1.GetResponse, error) {
		if r.Lock != "a" {
			return &raftlockv1.GetResponse{Lock: &raftlockv1.LockInfo{}, Stale: r.Stale}, nil
		}
		return &raftlockv1.GetResponse{Lock: heldLock, Stale: r.Stale, Index: 9}, nil
	}}
	l.serve(t, path)
	c := clientOf(t, path)
	stale := heldInfo
	stale.Stale = true
	for _, test := range []struct {
		name string
		opts []ReadOption
		want LockInfo
	}{{"a", nil, heldInfo}, {"a", []ReadOption{Stale()}, stale}, {"free", nil, LockInfo{Name: "free"}}} {
		got, err := c.Get(soon(t), test.name, test.opts...)
		if err != nil || !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s: %+v, %v", test.name, got, err)
		}
	}
	for name, lock := range map[string]string{"none": "", "long": strings.Repeat("x", 513), "no UTF-8": "\xff", "control": "a\n"} {
		if _, err := c.Get(soon(t), lock); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Scripts read this JSON: names and forms stay.
func TestReadsAsJSON(t *testing.T) {
	for _, c := range []struct {
		name string
		of   any
		want string
	}{
		{"lock", heldInfo, `{"name":"a","held":true,"token":33,"owner":"uid:1000","agent":"n1","session":"abcd",` +
			`"waiters":2,"revoked":true,"metadata":{"job":"7"},"stale":false,"ttl":"10s"}`},
		{"free lock", LockInfo{Name: "a"}, `{"name":"a","held":false,"token":0,"owner":"","agent":"","session":"",` +
			`"waiters":0,"revoked":false,"metadata":{},"stale":false,"ttl":"0s"}`},
		{"page", Page{Locks: []LockInfo{}, Index: 4}, `{"locks":[],"next":"","stale":false,"index":4}`},
		{"status", statusOf(&raftlockv1.StatusResponse{Agent: "n1", Reach: noQuorum, Term: 3, Nodes: []*raftlockv1.Node{
			{Name: "n1", Role: raftlockv1.Node_ROLE_VOTER, Alive: true}, {Name: "n2"}}}),
			`{"agent":"n1","version":"","server_id":"","cluster_id":"","doing":"","reach":"NO_QUORUM","leader_id":"",` +
				`"leader_name":"","term":3,"quorum_size":0,"has_quorum":false,"sessions":0,"holds":0,"waits":0,"nodes":[` +
				`{"name":"n1","server_id":"","address":"","role":"voter","leader":false,"alive":true},` +
				`{"name":"n2","server_id":"","address":"","role":"unknown","leader":false,"alive":false}],"behind":0}`},
	} {
		text, err := json.Marshal(c.of)
		if err != nil || string(text) != c.want {
			t.Errorf("%s: %s, %v", c.name, text, err)
		}
	}
	// As HTTP writes them, and no hours or minutes.
	for ttl, want := range map[time.Duration]string{
		200 * time.Millisecond: "0.2s", time.Minute: "60s", 24*time.Hour - time.Nanosecond: "86399.999999999s", time.Hour: "3600s",
	} {
		read, rerr := json.Marshal(LockInfo{TTL: ttl})
		wrote, werr := json.Marshal(PlainLock{TTL: ttl})
		text := `"ttl":"` + want + `"`
		if rerr != nil || werr != nil || !strings.Contains(string(read), text) || !strings.Contains(string(wrote), text) {
			t.Errorf("%v: %s, %s", ttl, read, wrote)
		}
	}
	var back LockInfo
	text, _ := json.Marshal(heldInfo)
	if err := json.Unmarshal(text, &back); err != nil || !reflect.DeepEqual(back, heldInfo) {
		t.Errorf("read again: %+v, %v", back, err)
	}
	if err := json.Unmarshal([]byte(`{"ttl":"soon"}`), &back); err == nil {
		t.Error("no TTL, and no error")
	}
}

func TestList(t *testing.T) {
	path := socketPath(t)
	var asked *raftlockv1.ListRequest
	l := &librarian{list: func(r *raftlockv1.ListRequest) (*raftlockv1.ListResponse, error) {
		asked = proto.CloneOf(r)
		return &raftlockv1.ListResponse{Locks: []*raftlockv1.LockInfo{heldLock}, Next: "a", Stale: r.Stale, Index: 9}, nil
	}}
	l.serve(t, path)
	c := clientOf(t, path)
	f := Filter{Prefix: "p", Pattern: "*x", Owner: "uid:1", Contested: true, Metadata: map[string]string{"k": "v"}, After: "o", Limit: 7}
	page, err := c.List(soon(t), f, Stale())
	want := heldInfo
	want.Stale = true
	if err != nil || !reflect.DeepEqual(page, Page{Locks: []LockInfo{want}, Next: "a", Stale: true, Index: 9}) {
		t.Errorf("%+v, %v", page, err)
	}
	if request := (&raftlockv1.ListRequest{Prefix: "p", Pattern: "*x", Owner: "uid:1", Contested: true,
		Metadata: map[string]string{"k": "v"}, After: "o", Limit: 7, Stale: true}); !proto.Equal(asked, request) {
		t.Errorf("asked %v", asked)
	}
	for name, f := range map[string]Filter{"limit": {Limit: -1}, "prefix": {Prefix: "\xff"}, "metadata": {Metadata: map[string]string{"k": "\xff"}}} {
		if _, err := c.List(soon(t), f); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestLocksGoesThroughAllPages(t *testing.T) {
	path := socketPath(t)
	stuck := errors.New("unset")
	l := &librarian{list: func(r *raftlockv1.ListRequest) (*raftlockv1.ListResponse, error) {
		resp := &raftlockv1.ListResponse{}
		for n := range 5 {
			name := fmt.Sprint("l", n)
			if name > r.After && len(resp.Locks) < 2 {
				resp.Locks = append(resp.Locks, &raftlockv1.LockInfo{Name: name})
				resp.Next = name
			}
		}
		switch {
		case len(resp.Locks) < 2:
			resp.Next = ""
		case r.Owner == "loop":
			resp.Next = "l1"
		case r.Owner == "fails" && r.After != "":
			return nil, reasoned(codes.Unavailable, "NO_LEADER", "no")
		}
		return resp, nil
	}}
	l.serve(t, path)
	c := clientOf(t, path)
	for _, test := range []struct {
		owner string
		stop  int
		names []string
		want  error
	}{
		{"all", 0, []string{"l0", "l1", "l2", "l3", "l4"}, nil},
		{"all", 3, []string{"l0", "l1", "l2"}, nil},
		{"fails", 0, []string{"l0", "l1"}, ErrNoLeader},
		{"loop", 0, []string{"l0", "l1"}, stuck},
	} {
		var names []string
		var failed error
		for l, err := range c.Locks(soon(t), Filter{Owner: test.owner}) {
			if failed = err; err != nil {
				continue // it must be the last
			}
			if names = append(names, l.Name); len(names) == test.stop {
				break
			}
		}
		if !slices.Equal(names, test.names) || !errors.Is(failed, test.want) && (failed == nil || test.want != stuck) {
			t.Errorf("%s: %v, %v", test.owner, names, failed)
		}
	}
}

func reasoned(code codes.Code, reason, applied string) error {
	st, err := status.New(code, "the detail").WithDetails(&errdetails.ErrorInfo{
		Domain: "raftlock", Reason: reason, Metadata: map[string]string{"applied": applied}})
	if err != nil {
		panic(err)
	}
	return st.Err()
}

func TestEveryReasonComesThroughStatus(t *testing.T) {
	for n, name := range raftlockv1.Reason_name {
		r := raftlockv1.Reason(n)
		if r == raftlockv1.Reason_REASON_UNSPECIFIED || r == ok {
			continue
		}
		for _, applied := range []Applied{AppliedNo, AppliedUnknown} {
			err := FromStatus(reasoned(codes.Aborted, strings.TrimPrefix(name, "REASON_"), string(applied)))
			if e := new(Error); !errors.As(err, &e) || e.Reason != r || e.Applied != applied || e.Detail != "the detail" || !errors.Is(err, sentinels[r]) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	for name, c := range map[string]struct{ err, want error }{
		"of the future":      {reasoned(codes.Aborted, "MOONSTRUCK", "no"), ErrUnnamed},
		"out of time there":  {reasoned(codes.DeadlineExceeded, "NO_QUORUM", "no"), context.DeadlineExceeded},
		"out of time here":   {status.Error(codes.DeadlineExceeded, "x"), context.DeadlineExceeded},
		"called off":         {status.Error(codes.Canceled, "x"), context.Canceled},
		"without a reason":   {status.Error(codes.Unimplemented, "x"), ErrUnnamed},
		"of another service": {anothers(), ErrUnnamed},
		"nothing":            {nil, nil},
	} {
		if err := FromStatus(c.err); !errors.Is(err, c.want) || err != nil && c.want == nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := FromStatus(reasoned(codes.Aborted, "MOONSTRUCK", "no")); !strings.Contains(err.Error(), "MOONSTRUCK") {
		t.Errorf("%v hides the reason", err)
	}
}

func anothers() error {
	st, _ := status.New(codes.Unavailable, "x").WithDetails(&errdetails.ErrorInfo{Domain: "other", Reason: "HELD"})
	return st.Err()
}

func TestReadsWithoutAnAgent(t *testing.T) {
	defer goleak.VerifyNone(t)
	path := socketPath(t)
	c, err := Dial(t.Context(), WithSocket(path))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = c.Get(ctx, "a")
	if e := new(Error); !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, syscall.ENOENT) ||
		!strings.Contains(err.Error(), path) || !errors.As(err, &e) || e.Applied != AppliedNo {
		t.Errorf("%v", err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

// Reads begin before the agent is there, go on while it restarts, and are asked
// again when the connection broke under them.
func TestReadsOutliveAgents(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	path := socketPath(t)
	asked, leave := make(chan struct{}), make(chan struct{})
	var silent atomic.Bool
	l := &librarian{get: func(ctx context.Context, r *raftlockv1.GetRequest) (*raftlockv1.GetResponse, error) {
		if silent.Load() {
			close(asked)
			<-leave
		}
		return &raftlockv1.GetResponse{Lock: heldLock}, nil
	}}
	c := clientOf(t, path)
	got := make(chan error)
	get := func() {
		_, err := c.Get(soon(t), "a")
		got <- err
	}
	go get()
	stop := l.serve(t, path)
	if err := <-got; err != nil {
		t.Errorf("before it was there: %v", err)
	}
	silent.Store(true)
	go get()
	<-asked
	silent.Store(false)
	stopped := make(chan struct{})
	go func() { defer close(stopped); stop() }()
	// Stop waits for the handler, but cuts the connection first.
	defer func() { <-stopped }()
	select {
	case err := <-got:
		t.Errorf("ended with its agent: %v", err)
	case <-time.After(10 * time.Millisecond):
	}
	close(leave)
	<-stopped
	stop = l.serve(t, path)
	if err := <-got; err != nil {
		t.Errorf("cut: %v", err)
	}
	go get()
	if err := <-got; err != nil {
		t.Errorf("afterwards: %v", err)
	}
	stop()
	_ = c.Close()
}

func TestClosedClientReadsNoMore(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	path := socketPath(t)
	asked := make(chan struct{})
	l := &librarian{get: func(ctx context.Context, _ *raftlockv1.GetRequest) (*raftlockv1.GetResponse, error) {
		close(asked)
		<-ctx.Done()
		return nil, ctx.Err()
	}}
	stop := l.serve(t, path)
	c := clientOf(t, path)
	under := make(chan error)
	go func() {
		_, err := c.Get(soon(t), "a")
		under <- err
	}()
	<-asked
	for range 2 {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
	if err := <-under; !errors.Is(err, ErrClosed) {
		t.Errorf("under way: %v", err)
	}
	if _, err := c.Status(soon(t)); !errors.Is(err, ErrClosed) {
		t.Errorf("after: %v", err)
	}
	stop()
}

func TestReadsNeedASocket(t *testing.T) {
	c, err := Dial(t.Context(), WithDialer(newFake(t).dial))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Status(soon(t)); !errors.Is(err, ErrInvalid) {
		t.Errorf("%v", err)
	}
}

func TestReadRefused(t *testing.T) {
	path := socketPath(t)
	var reason atomic.Value
	l := &librarian{get: func(context.Context, *raftlockv1.GetRequest) (*raftlockv1.GetResponse, error) {
		return nil, reason.Load().(error)
	}}
	l.serve(t, path)
	c := clientOf(t, path)
	for name, test := range map[string]struct{ err, want error }{
		"no quorum":  {reasoned(codes.Unavailable, "NO_QUORUM", "no"), ErrNoQuorum}, // not asked again: it waited
		"denied":     {reasoned(codes.PermissionDenied, "DENIED", "no"), ErrDenied},
		"time there": {status.Error(codes.DeadlineExceeded, "stream terminated by RST_STREAM"), context.DeadlineExceeded},
		"too late":   {status.Error(codes.DeadlineExceeded, "x"), ErrCancelled},
		"unknown":    {status.Error(codes.Unimplemented, "old agent"), ErrUnnamed},
	} {
		reason.Store(test.err)
		if _, err := c.Get(soon(t), "a"); !errors.Is(err, test.want) || !strings.Contains(err.Error(), `get "a"`) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
