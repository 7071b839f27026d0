package fakeagent

import (
	"cmp"
	"context"
	"slices"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	raftlockv1 "github.com/raftlock/raftlock/api/raftlock/v1"
)

// plainTTL is what a plain hold has if its caller names none.
const plainTTL = 30 * time.Second

// Refuse answers plain requests, Status, and the acquires of sessions, with the reason
// from now on; UNSPECIFIED ends that.
func (a *Agent) Refuse(reason raftlockv1.Reason) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.refuses = reason
}

// Acquire serves a plain acquire. Plain holds do not expire here.
func (a *Agent) Acquire(ctx context.Context, r *raftlockv1.AcquireRequest) (*raftlockv1.AcquireResponse, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.refusal(); err != nil {
		return nil, err
	}
	l, ttl := a.lock(r.Lock), plainTTL
	if r.TtlNanos != nil {
		ttl = time.Duration(*r.TtlNanos)
	}
	c := l.holder
	if c == nil || c.owner != r.Owner {
		c = &claim{owner: r.Owner, priority: r.Priority}
		if !a.take(c, r.Lock, r.GetWaitNanos() == 0) && !a.turn(ctx, l, c, time.Duration(r.GetWaitNanos())) {
			return nil, refused(codes.Aborted, raftlockv1.Reason_REASON_HELD, "somebody else holds it")
		}
		c.metadata = r.Metadata
	}
	c.ttl = ttl
	return &raftlockv1.AcquireResponse{Lock: plainLock(l.name, c, Clock()+c.ttl/100*98)}, nil
}

// turn waits, without the mutex, until c holds l; false: the wait is over.
func (a *Agent) turn(ctx context.Context, l *lock, c *claim, wait time.Duration) bool {
	over := time.NewTimer(wait)
	defer over.Stop()
	for l.holder != c {
		changed, ended := a.changed, false
		a.mu.Unlock()
		select {
		case <-changed:
		case <-over.C:
			ended = true
		case <-ctx.Done():
			ended = true
		}
		a.mu.Lock()
		if ended && l.holder != c {
			l.queue = slices.DeleteFunc(l.queue, func(other *claim) bool { return other == c })
			a.note("cancel")
			return false
		}
	}
	return true
}

// Renew serves a plain renewal.
func (a *Agent) Renew(_ context.Context, r *raftlockv1.RenewRequest) (*raftlockv1.RenewResponse, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	c, err := a.heldBy(r.Lock, r.Owner, r.Token)
	if err != nil {
		return nil, err
	}
	if r.TtlNanos != nil {
		c.ttl = time.Duration(*r.TtlNanos)
	}
	a.note("renew %s %d", r.Lock, c.token)
	return &raftlockv1.RenewResponse{Lock: plainLock(r.Lock, c, Clock()+c.ttl/100*98)}, nil
}

// Release serves a plain release.
func (a *Agent) Release(_ context.Context, r *raftlockv1.ReleaseRequest) (*raftlockv1.ReleaseResponse, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	c, err := a.heldBy(r.Lock, r.Owner, r.Token)
	if err != nil {
		return nil, err
	}
	a.free(a.lock(r.Lock))
	return &raftlockv1.ReleaseResponse{Lock: plainLock(r.Lock, c, 0)}, nil
}

func (a *Agent) heldBy(name, owner string, token uint64) (*claim, error) {
	if err := a.refusal(); err != nil {
		return nil, err
	}
	c := a.lock(name).holder
	switch {
	case c == nil:
		return nil, refused(codes.FailedPrecondition, raftlockv1.Reason_REASON_NOT_HELD, "nobody holds it")
	case c.owner != owner:
		return nil, refused(codes.PermissionDenied, raftlockv1.Reason_REASON_NOT_OWNER, "somebody else holds it")
	case c.token != cmp.Or(token, c.token):
		return nil, refused(codes.FailedPrecondition, raftlockv1.Reason_REASON_STALE_TOKEN, "it is held under another token")
	}
	return c, nil
}

func plainLock(name string, c *claim, v time.Duration) *raftlockv1.PlainLock {
	p := &raftlockv1.PlainLock{Lock: name, Owner: c.owner, Token: c.token, TtlNanos: uint64(c.ttl), DeadlineNanos: uint64(v)}
	if v > 0 {
		p.ExpiresUnixNanos = time.Now().Add(v - Clock()).UnixNano()
	}
	return p
}

// refusal must be called with the mutex held.
func (a *Agent) refusal() error {
	if a.refuses == raftlockv1.Reason_REASON_UNSPECIFIED {
		return nil
	}
	return refused(codes.Unavailable, a.refuses, "as the test wants")
}

func refused(code codes.Code, reason raftlockv1.Reason, words string) error {
	st, err := status.New(code, words).WithDetails(&errdetails.ErrorInfo{
		Domain: "raftlock", Reason: reason.String()[len("REASON_"):], Metadata: map[string]string{"applied": "no"}})
	if err != nil {
		return err
	}
	return st.Err()
}
