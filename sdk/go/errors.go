package raftlock

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	raftlockv1 "github.com/raftlock/raftlock/api/raftlock/v1"
)

// What a call can fail with; compare with errors.Is. An *Error in the chain
// tells whether the request may have been applied.
var (
	// ErrHeld: TryLock found the lock held by somebody. Safe to retry.
	ErrHeld = errors.New("lock is held")
	// ErrNotHeld: the named hold is not held (any more).
	ErrNotHeld = errors.New("not held")
	// ErrNotOwner: somebody else holds it.
	ErrNotOwner = errors.New("not the owner")
	// ErrStaleToken: a newer token of this lock is in force.
	ErrStaleToken = errors.New("stale token")
	// ErrLost: this handle no longer holds the lock, and never will again. Stop
	// the work it protected; to go on, Lock anew.
	ErrLost = errors.New("lock lost")
	// ErrNotFound: no such thing.
	ErrNotFound = errors.New("not found")
	// ErrInvalid: the request is out of bounds; repeating it is useless.
	ErrInvalid = errors.New("invalid request")
	// ErrQueueFull: too much is under way, here or in the cluster. Nothing was
	// done; retry later.
	ErrQueueFull = errors.New("queue full")
	// ErrNotWaiting: the cluster does not know this wait any more.
	ErrNotWaiting = errors.New("not waiting")
	// ErrNoLeader: no leader was found in time.
	ErrNoLeader = errors.New("no leader")
	// ErrNoQuorum: too few voters are there to decide.
	ErrNoQuorum = errors.New("no quorum")
	// ErrRateLimited: slow down. Nothing was done.
	ErrRateLimited = errors.New("rate limited")
	// ErrDenied: a wrong secret, or a process that may not, forbids it.
	ErrDenied = errors.New("denied")
	// ErrLimit: a bound of the cluster (waiters, holds, sessions) is reached.
	ErrLimit = errors.New("limit reached")
	// ErrSuperseded: somebody else resumed this session; it is over for us.
	ErrSuperseded = errors.New("superseded")
	// ErrCancelled: the acquire was cancelled; its context ended, as a rule.
	ErrCancelled = errors.New("cancelled")
	// ErrReleased: the handle was unlocked before.
	ErrReleased = errors.New("released")
	// ErrRevoked: an administrator takes the hold away.
	ErrRevoked = errors.New("revoked")
	// ErrSessionEnded: the session is over, and everything it held is lost.
	ErrSessionEnded = errors.New("session ended")
	// ErrExpired: the session's lease ran out.
	ErrExpired = errors.New("expired")
	// ErrUsedUp: the request's sequence was used before.
	ErrUsedUp = errors.New("sequence used up")
	// ErrExists: the session was opened before, by a request of another stream.
	ErrExists = errors.New("session exists")

	// ErrForked: this process is a fork of the one that opened the session.
	// The child has no part in it; nothing was done.
	ErrForked = errors.New("session belongs to the parent process")
	// ErrClock: this process and its agent read different clocks (a time
	// namespace, say), so no deadline could be told.
	ErrClock = errors.New("clocks of process and agent cannot be compared")
	// ErrClosed: the client was closed.
	ErrClosed = errors.New("client is closed")
	// ErrUnnamed: the agent gave a reason that this SDK has no name for.
	ErrUnnamed = errors.New("reason unknown to this version")
)

// sentinels is the one table of reasons; OK and UNSPECIFIED are no errors of
// their own.
var sentinels = map[raftlockv1.Reason]error{
	raftlockv1.Reason_REASON_HELD:          ErrHeld,
	raftlockv1.Reason_REASON_NOT_HELD:      ErrNotHeld,
	raftlockv1.Reason_REASON_NOT_OWNER:     ErrNotOwner,
	raftlockv1.Reason_REASON_STALE_TOKEN:   ErrStaleToken,
	raftlockv1.Reason_REASON_LOST:          ErrLost,
	raftlockv1.Reason_REASON_NOT_FOUND:     ErrNotFound,
	raftlockv1.Reason_REASON_INVALID:       ErrInvalid,
	raftlockv1.Reason_REASON_QUEUE_FULL:    ErrQueueFull,
	raftlockv1.Reason_REASON_NOT_WAITING:   ErrNotWaiting,
	raftlockv1.Reason_REASON_NO_LEADER:     ErrNoLeader,
	raftlockv1.Reason_REASON_NO_QUORUM:     ErrNoQuorum,
	raftlockv1.Reason_REASON_RATE_LIMITED:  ErrRateLimited,
	raftlockv1.Reason_REASON_DENIED:        ErrDenied,
	raftlockv1.Reason_REASON_LIMIT:         ErrLimit,
	raftlockv1.Reason_REASON_SUPERSEDED:    ErrSuperseded,
	raftlockv1.Reason_REASON_CANCELLED:     ErrCancelled,
	raftlockv1.Reason_REASON_RELEASED:      ErrReleased,
	raftlockv1.Reason_REASON_REVOKED:       ErrRevoked,
	raftlockv1.Reason_REASON_SESSION_ENDED: ErrSessionEnded,
	raftlockv1.Reason_REASON_EXPIRED:       ErrExpired,
	raftlockv1.Reason_REASON_USED_UP:       ErrUsedUp,
	raftlockv1.Reason_REASON_EXISTS:        ErrExists,
}

// Applied says what is known of a failed request's effect.
type Applied string

// The values of Applied.
const (
	// AppliedNo: it had no effect, and will have none.
	AppliedNo Applied = "no"
	// AppliedUnknown: it may have had, or may still have, its effect. An
	// acquire is being undone; a release is still being repeated.
	AppliedUnknown Applied = "unknown"
)

// Error is what every failed request returns, wrapped or not.
type Error struct {
	Reason  raftlockv1.Reason
	Detail  string
	Applied Applied

	cause error
}

// Error names the reason, the detail and, where it is in doubt, the effect.
func (e *Error) Error() string {
	text := sentinel(e.Reason).Error()
	if e.Detail != "" {
		text += ": " + e.Detail
	}
	if e.cause != nil {
		text += ": " + e.cause.Error()
	}
	if e.Applied == AppliedUnknown {
		text += " (applied: unknown)"
	}
	return text
}

// Unwrap makes errors.Is find the reason's sentinel and the cause.
func (e *Error) Unwrap() []error {
	if e.cause == nil {
		return []error{sentinel(e.Reason)}
	}
	return []error{sentinel(e.Reason), e.cause}
}

func sentinel(r raftlockv1.Reason) error {
	if err, ok := sentinels[r]; ok {
		return err
	}
	return ErrUnnamed
}

// errorDomain marks the details of errors that agents made.
const errorDomain = "raftlock"

// errorInfo finds what an agent said of an error; there is none in errors that
// gRPC itself makes.
func errorInfo(err error) (*errdetails.ErrorInfo, bool) {
	st, ok := status.FromError(err)
	if !ok {
		return nil, false
	}
	for _, d := range st.Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok && info.GetDomain() == errorDomain {
			return info, true
		}
	}
	return nil, false
}

// ctxErrors are the codes that stand for a context's end.
var ctxErrors = map[codes.Code]error{
	codes.DeadlineExceeded: context.DeadlineExceeded,
	codes.Canceled:         context.Canceled,
}

// FromStatus turns an error of a gRPC call to an agent into an *Error, for
// those who call the api themselves. One that names no reason becomes an
// ErrUnnamed around the original, or if time ran out an ErrCancelled that is
// the context's error too; both AppliedUnknown. nil stays nil.
func FromStatus(err error) error {
	if err == nil {
		return nil
	}
	info, told := errorInfo(err)
	ended := ctxErrors[status.Code(err)]
	switch {
	case !told && ended != nil:
		return givenUp(raftlockv1.Reason_REASON_OK, AppliedUnknown, fmt.Errorf("%w: %w", ended, err))
	case !told:
		return &Error{Applied: AppliedUnknown, cause: err}
	}
	e := &Error{Detail: status.Convert(err).Message(), Applied: AppliedUnknown, cause: ended}
	if info.GetMetadata()["applied"] == string(AppliedNo) {
		e.Applied = AppliedNo
	}
	r, named := raftlockv1.Reason_value["REASON_"+info.GetReason()]
	if e.Reason = raftlockv1.Reason(r); !named {
		e.cause = fmt.Errorf("reason %q", info.GetReason())
	}
	return e
}

// givenUp is the error of a call whose context ended before its answer. Where
// the agent said that it reaches nobody who could answer, that is the reason.
func givenUp(reach raftlockv1.Reason, applied Applied, cause error) *Error {
	if reach == raftlockv1.Reason_REASON_NO_LEADER || reach == raftlockv1.Reason_REASON_NO_QUORUM {
		return &Error{Reason: reach, Applied: applied, cause: fmt.Errorf("%w: %w", ErrCancelled, cause)}
	}
	return &Error{Reason: raftlockv1.Reason_REASON_CANCELLED, Applied: applied, cause: cause}
}

// unknown is the error of a request that was on its way.
func (e *Error) unknown() *Error {
	out := *e
	out.Applied = AppliedUnknown
	return &out
}

func refused(r raftlockv1.Reason, detail string) *Error {
	return &Error{Reason: r, Detail: detail, Applied: AppliedNo}
}

func invalid(format string, args ...any) *Error {
	return refused(raftlockv1.Reason_REASON_INVALID, fmt.Sprintf(format, args...))
}

// lostFor makes an ErrLost that also tells why.
func lostFor(r raftlockv1.Reason, detail string) *Error {
	e := &Error{Reason: raftlockv1.Reason_REASON_LOST, Detail: detail, Applied: AppliedNo}
	if r != raftlockv1.Reason_REASON_LOST && r != raftlockv1.Reason_REASON_UNSPECIFIED {
		e.cause = sentinel(r)
	}
	return e
}

// overFor makes the cause of an end that the agent told. OK is the opener's own.
func overFor(r raftlockv1.Reason) *Error {
	if r == raftlockv1.Reason_REASON_OK || r == raftlockv1.Reason_REASON_UNSPECIFIED {
		r = raftlockv1.Reason_REASON_SESSION_ENDED
	}
	return refused(r, "")
}

// endedFor makes an ErrSessionEnded that also tells why.
func endedFor(cause error) *Error {
	if errors.Is(cause, ErrSessionEnded) {
		cause = nil
	}
	return &Error{Reason: raftlockv1.Reason_REASON_SESSION_ENDED, Applied: AppliedNo, cause: cause}
}
