package raftlock

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	raftlockv1 "github.com/raftlock/raftlock/api/raftlock/v1"
	"github.com/raftlock/raftlock/internal/mutant"
)

// PlainLock is a plain hold: one without a session, for callers that come and
// go. It is named by lock and owner, so two processes under one owner name share
// its locks. Nobody watches over it: it ends with its TTL unless it is renewed,
// also when its holder lives, and not before when its holder dies.
type PlainLock struct {
	Name  string `json:"name"`
	Owner string `json:"owner"`
	// Token is the fencing token of the grant.
	Token uint64 `json:"token"`
	// TTL is text in JSON, in seconds: "60s".
	TTL time.Duration `json:"ttl"`
	// Deadline is V: until when it is held at the most, on this host's
	// CLOCK_BOOTTIME; 0 once released.
	Deadline time.Duration `json:"deadline_nanos"`
	// Expires is the same for people, by the host's wall clock. In JSON it is
	// absent once released.
	Expires time.Time `json:"expires_at,omitzero"`

	clock func() time.Duration
}

// Valid reports whether it was still held when it was asked, by this host's
// clock. A renewal, which answers another PlainLock, is not seen here; a release
// by somebody of the same owner is not either.
func (l PlainLock) Valid() bool { return l.clock != nil && l.clock() < l.Deadline }

// plainLock has PlainLock's fields without its methods.
type plainLock PlainLock

// MarshalJSON writes TTL as text.
func (l PlainLock) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		plainLock
		TTL string `json:"ttl"`
	}{plainLock(l), secondsText(l.TTL)})
}

// PlainAcquire asks for a plain hold.
type PlainAcquire struct {
	Lock string
	// Owner is the caller's own name for itself.
	Owner string
	// TTL: 0 is 30 s; at least TTLMin. With a wait, less than 1 s is raised to
	// that, and the answer tells.
	TTL time.Duration
	// Wait bounds the wait in the queue; 0: do not wait.
	Wait time.Duration
	// Priority: higher first. Where the owner holds it already, Priority and
	// Metadata stay what they were.
	Priority int32
	Metadata map[string]string
	// RequestID names the wait: who repeats it keeps its place while the first
	// call is open, and at another agent when the first one's died. A caller
	// that hangs up gives its place up; so does a connection that breaks under
	// an agent that lives. Made here if empty.
	RequestID string
}

// PlainRenew moves the deadline of a plain hold.
type PlainRenew struct {
	Lock, Owner string
	// TTL: 0 is the one it has.
	TTL time.Duration
	// Token: 0 is whichever the owner holds when the agent is asked.
	Token uint64
}

// PlainRelease gives a plain hold up.
type PlainRelease struct {
	Lock, Owner string
	// Token: 0 is whichever the owner holds when the agent is asked. Give it:
	// the lock may have been lost and granted anew, to another process of that
	// owner.
	Token uint64
}

// Acquire takes a lock for an owner, who need not be this process. If that
// owner holds it, it is renewed, with the same token; so repeating one is safe.
// It is repeated here when the connection breaks, until ctx ends. Errors:
// ErrHeld (somebody else holds it, or did all through Wait), ErrInvalid,
// ErrLimit, ErrRateLimited, ErrQueueFull, ErrDenied, ErrNoLeader, ErrNoQuorum,
// ErrRevoked (this owner holds it, and an administrator wants it back),
// ErrCancelled (ctx ended), ErrClosed. Where Applied is unknown, the owner may
// hold the lock; Release tells.
func (c *Client) Acquire(ctx context.Context, r PlainAcquire) (PlainLock, error) {
	req := &raftlockv1.AcquireRequest{Lock: r.Lock, Owner: r.Owner, Priority: r.Priority, Metadata: r.Metadata, RequestId: r.RequestID}
	var resp *raftlockv1.AcquireResponse
	err := r.acquirable()
	if err == nil && r.Wait > 0 && r.RequestID == "" {
		req.RequestId, err = c.requestID()
	}
	if err != nil {
		return PlainLock{}, fmt.Errorf("acquire %q: %w", r.Lock, err)
	}
	if r.TTL != 0 {
		req.TtlNanos = proto.Uint64(uint64(r.TTL))
	}
	until := c.cfg.clock() + r.Wait
	err = c.change(ctx, fmt.Sprintf("acquire %q", r.Lock), harmless, func(ctx context.Context, agent raftlockv1.RaftLockClient) (err error) {
		if r.Wait > 0 {
			// What is left of it: a repetition does not wait anew.
			req.WaitNanos = proto.Uint64(uint64(max(until-c.cfg.clock(), 0)))
		}
		resp, err = agent.Acquire(ctx, req, grpc.WaitForReady(true))
		return err
	})
	return c.plainOf(resp.GetLock()), err
}

// acquirable refuses what could not even be sent, and what is known to be out of
// bounds; the agent judges the rest.
func (r PlainAcquire) acquirable() error {
	size, texts := 0, []string{r.RequestID}
	for k, v := range r.Metadata {
		size += len(k) + len(v)
		texts = append(texts, k, v)
	}
	switch {
	case slices.ContainsFunc(texts, func(text string) bool { return !utf8.ValidString(text) }):
		return invalid("metadata and request ids are UTF-8")
	case size > metadataBytesMax:
		return invalid("metadata has at most %d bytes", metadataBytesMax)
	case r.Wait < 0:
		return invalid("a wait of %v", r.Wait)
	}
	return plainBounds(r.Lock, r.Owner, r.TTL)
}

func (c *Client) requestID() (string, error) {
	id := make([]byte, 16)
	if _, err := io.ReadFull(c.cfg.rand, id); err != nil {
		return "", fmt.Errorf("make a request id: %w", err)
	}
	return hex.EncodeToString(id), nil
}

// Renew moves the deadline of a plain hold. Repeating is safe, and done here
// when the connection breaks; without a token it renews what the owner holds by
// then, and the answer names that. Errors: ErrNotHeld, ErrNotOwner and ErrStaleToken
// (it is not held, or not so, any more), and Acquire's but for ErrHeld.
func (c *Client) Renew(ctx context.Context, r PlainRenew) (PlainLock, error) {
	if err := plainBounds(r.Lock, r.Owner, r.TTL); err != nil {
		return PlainLock{}, fmt.Errorf("renew %q: %w", r.Lock, err)
	}
	req := &raftlockv1.RenewRequest{Lock: r.Lock, Owner: r.Owner, Token: r.Token}
	if r.TTL != 0 {
		req.TtlNanos = proto.Uint64(uint64(r.TTL))
	}
	var resp *raftlockv1.RenewResponse
	err := c.change(ctx, fmt.Sprintf("renew %q", r.Lock), harmless, func(ctx context.Context, agent raftlockv1.RaftLockClient) (err error) {
		resp, err = agent.Renew(ctx, req, grpc.WaitForReady(true))
		return err
	})
	return c.plainOf(resp.GetLock()), err
}

// Release gives a plain hold up. With a token, repeating is safe, and done here
// when the connection breaks. Without one it would release what the owner holds
// by then, so it is asked once: where the connection breaks under it, the error
// is an ErrCancelled whose Applied is unknown, and Get tells what is held. Other
// errors are Renew's; an ErrNotHeld whose Applied is unknown means that it
// worked, or that the lease ran out.
func (c *Client) Release(ctx context.Context, r PlainRelease) (PlainLock, error) {
	if err := plainBounds(r.Lock, r.Owner, 0); err != nil {
		return PlainLock{}, fmt.Errorf("release %q: %w", r.Lock, err)
	}
	req := &raftlockv1.ReleaseRequest{Lock: r.Lock, Owner: r.Owner, Token: r.Token}
	var resp *raftlockv1.ReleaseResponse
	err := c.change(ctx, fmt.Sprintf("release %q", r.Lock), repetition(r.Token != 0), func(ctx context.Context, agent raftlockv1.RaftLockClient) (err error) {
		resp, err = agent.Release(ctx, req, grpc.WaitForReady(true))
		return err
	})
	return c.plainOf(resp.GetLock()), err
}

// change asks as read does, and says of a failure whether anything may have
// come of it: before it is wrapped, since that makes its text.
func (c *Client) change(ctx context.Context, doing string, again repetition, ask func(context.Context, raftlockv1.RaftLockClient) error) error {
	tries, told := 0, false
	err := c.asked(ctx, again, func(ctx context.Context, agent raftlockv1.RaftLockClient) error {
		tries++
		err := ask(ctx, agent)
		_, told = errorInfo(err)
		return err
	})
	if err == nil {
		return nil
	}
	// One that broke may have been applied, whatever its repetition is told. One
	// that was never answered was not even sent if there is no connection yet.
	if (tries > 1 || tries > 0 && !told && c.reads.obstacle() == nil) && !mutant.On("sdk-plain-unknown") {
		err = ofUnknownEffect(err)
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// ofUnknownEffect says of an error that the request may have been applied.
func ofUnknownEffect(err error) error {
	var failed *Error
	if !errors.As(err, &failed) {
		// The client was closed meanwhile.
		return givenUp(raftlockv1.Reason_REASON_OK, AppliedUnknown, err)
	}
	failed.Applied = AppliedUnknown
	// The agent speaks of the last repetition only.
	failed.Detail = strings.ReplaceAll(failed.Detail, "; applied: no", "")
	return err
}

func (c *Client) plainOf(l *raftlockv1.PlainLock) PlainLock {
	p := PlainLock{Name: l.GetLock(), Owner: l.GetOwner(), Token: l.GetToken(), TTL: reading(l.GetTtlNanos()),
		Deadline: reading(l.GetDeadlineNanos()), clock: c.cfg.clock}
	if at := l.GetExpiresUnixNanos(); at != 0 {
		p.Expires = time.Unix(0, at).UTC()
	}
	return p
}

func plainBounds(lock, owner string, ttl time.Duration) error {
	switch {
	case owner == "":
		return invalid("an owner's name is missing")
	case !utf8.ValidString(owner):
		return invalid("an owner's name is UTF-8")
	case ttl != 0 && ttl < TTLMin:
		return invalid("TTL %v is below %v", ttl, TTLMin)
	}
	return boundedName(lock)
}
