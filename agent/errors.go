package agent

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/raftlock/raftlock/agent/bootstrap"
	"github.com/raftlock/raftlock/agent/session"
	api "github.com/raftlock/raftlock/api/raftlock/v1"
)

// ErrorDomain is the domain of the ErrorInfo that every refusal carries. Its
// reason is the name of an api.Reason without the prefix "REASON_", its
// metadata has "applied": "no" or "unknown", and where somebody else holds the
// lock "holder_owner", "holder_token", "holder_agent" and, of a session,
// "holder_session" in hex. A refusal that passes by itself carries a RetryInfo.
const ErrorDomain = "raftlock"

// meaning is what a caller is told of an error.
type meaning struct {
	err    error
	code   codes.Code
	reason api.Reason
	next   string // what to do
}

// meanings is the one table of errors (design section 11). The first row that
// the error wraps counts, so causes come before what they caused.
var meanings = []meaning{
	{session.ErrNoQuorum, codes.Unavailable, api.Reason_REASON_NO_QUORUM, "a majority of the voters must be reachable: see raftlock status"},
	{session.ErrNoLeader, codes.Unavailable, api.Reason_REASON_NO_LEADER, "an election takes 2 to 3 s: try again"},
	{session.ErrClosed, codes.Unavailable, api.Reason_REASON_NO_LEADER, "the agent is stopping: try again once it is back"},
	{session.ErrTooMany, codes.ResourceExhausted, api.Reason_REASON_QUEUE_FULL, "try again later"},
	{session.ErrQueueFull, codes.ResourceExhausted, api.Reason_REASON_QUEUE_FULL, "try again later"},
	{session.ErrInvalid, codes.InvalidArgument, api.Reason_REASON_INVALID, "strings are UTF-8"},
	{session.ErrFirst, codes.InvalidArgument, api.Reason_REASON_INVALID, "see api/raftlock/v1/raftlock.proto"},
	{bootstrap.ErrNotPromised, codes.FailedPrecondition, api.Reason_REASON_NOT_FOUND, "raftlock status tells the list this agent waits for"},
	{bootstrap.ErrBelongs, codes.FailedPrecondition, api.Reason_REASON_EXISTS, "there is nothing to forget"},
	{bootstrap.ErrFounderLives, codes.FailedPrecondition, api.Reason_REASON_HELD, "wait for it, or stop it for good first"},
	{errNoPeer, codes.Internal, api.Reason_REASON_DENIED, "connect to the agent's Unix socket"},
	{session.ErrNotSent, codes.Unavailable, api.Reason_REASON_NO_LEADER, "try again"},
	{session.ErrUnknown, codes.DeadlineExceeded, api.Reason_REASON_NO_LEADER, "allow more time"},
	{context.DeadlineExceeded, codes.DeadlineExceeded, api.Reason_REASON_CANCELLED, "allow more time"},
	{context.Canceled, codes.Canceled, api.Reason_REASON_CANCELLED, ""},
}

// reasonCodes is gRPC's code for each reason that is an answer.
var reasonCodes = map[api.Reason]codes.Code{
	api.Reason_REASON_HELD:          codes.Aborted,
	api.Reason_REASON_NOT_HELD:      codes.FailedPrecondition,
	api.Reason_REASON_NOT_OWNER:     codes.PermissionDenied,
	api.Reason_REASON_STALE_TOKEN:   codes.FailedPrecondition,
	api.Reason_REASON_LOST:          codes.FailedPrecondition,
	api.Reason_REASON_NOT_FOUND:     codes.NotFound,
	api.Reason_REASON_INVALID:       codes.InvalidArgument,
	api.Reason_REASON_QUEUE_FULL:    codes.ResourceExhausted,
	api.Reason_REASON_NOT_WAITING:   codes.FailedPrecondition,
	api.Reason_REASON_NO_LEADER:     codes.Unavailable,
	api.Reason_REASON_NO_QUORUM:     codes.Unavailable,
	api.Reason_REASON_RATE_LIMITED:  codes.ResourceExhausted,
	api.Reason_REASON_DENIED:        codes.PermissionDenied,
	api.Reason_REASON_LIMIT:         codes.ResourceExhausted,
	api.Reason_REASON_SUPERSEDED:    codes.Aborted,
	api.Reason_REASON_CANCELLED:     codes.Canceled,
	api.Reason_REASON_RELEASED:      codes.FailedPrecondition,
	api.Reason_REASON_REVOKED:       codes.FailedPrecondition,
	api.Reason_REASON_SESSION_ENDED: codes.FailedPrecondition,
	api.Reason_REASON_EXPIRED:       codes.FailedPrecondition,
	api.Reason_REASON_USED_UP:       codes.FailedPrecondition,
	api.Reason_REASON_EXISTS:        codes.AlreadyExists,
}

// advice is what to do about an answer that says no, where its text does not. It
// is read by who releases as by who renews.
var advice = map[api.Reason]string{
	api.Reason_REASON_HELD:        "try again later, or wait your turn by giving a time to wait",
	api.Reason_REASON_NOT_HELD:    "it was released, or its lease ran out: stop what it protected",
	api.Reason_REASON_NOT_OWNER:   "yours, if you had it, was released, or its lease ran out: stop what it protected",
	api.Reason_REASON_STALE_TOKEN: "that hold is over: stop what it protected",
	api.Reason_REASON_LIMIT:       "release some first",
	api.Reason_REASON_REVOKED:     "finish what you do with it, and release that token",
	api.Reason_REASON_EXISTS:      "choose another owner",
}

// effect says whether a request changes anything if it is applied.
type effect bool

const (
	reads   effect = false
	changes effect = true
)

// refusal is the gRPC error for err: its code, its reason, whether the request
// may have been applied, and what to do next, in one line. What nobody foresaw
// becomes Internal with a plain message; its detail is for the log.
func (s *API) refusal(err error, e effect) error {
	for _, m := range meanings {
		if errors.Is(err, m.err) {
			unknown := bool(e) && errors.Is(err, session.ErrUnknown)
			return refusal(m.code, m.reason, unknown, s.text(m, e, unknown))
		}
	}
	s.log.Error("request failed", "error", err)
	return refusal(codes.Internal, api.Reason_REASON_UNSPECIFIED, true, "internal error; the agent's log has it")
}

func (s *API) text(m meaning, e effect, unknown bool) string {
	text, _, _ := strings.Cut(m.err.Error(), "; applied: ")
	switch {
	case e == reads:
	case unknown:
		text += "; applied: unknown"
	default:
		text += "; applied: no"
	}
	if m.reason == api.Reason_REASON_NO_LEADER && s.a.ClusterID() == "" {
		m.next = "this agent still looks for its cluster: raftlock status tells what it waits for"
	}
	if m.next != "" {
		text += "; " + m.next
	}
	return text
}

// refused is the gRPC error for an answer that says no.
func refused(why api.Reason, detail string) error {
	code, ok := reasonCodes[why]
	if !ok {
		code = codes.Internal
	}
	return refusal(code, why, false, detail)
}

// refusedFor is refused with what to do next, and with who has the lock: nil,
// where that is not the reason.
func refusedFor(why api.Reason, detail string, holder *api.Holder) error {
	return refusedWith(advice[why], why, detail, holder)
}

// refusedWith is refusedFor, where what to do next is not what it is for others.
func refusedWith(next string, why api.Reason, detail string, holder *api.Holder) error {
	info := infoFor(why, false)
	if holder != nil {
		info.Metadata["holder_owner"] = holder.Owner
		info.Metadata["holder_token"] = strconv.FormatUint(holder.Token, 10)
		info.Metadata["holder_agent"] = holder.Agent
		if len(holder.Session) > 0 {
			info.Metadata["holder_session"] = hex.EncodeToString(holder.Session)
		}
		detail = fmt.Sprintf("%s: %q, with token %d", detail, holder.Owner, holder.Token)
	}
	if next != "" {
		detail += "; " + next
	}
	return withDetails(reasonCodes[why], detail, info)
}

// limited is the refusal of who asks for too much, until so much later.
func limited(what string, later time.Duration) error {
	return withDetails(codes.ResourceExhausted, session.TooMuch(what, later), infoFor(api.Reason_REASON_RATE_LIMITED, false),
		&errdetails.RetryInfo{RetryDelay: durationpb.New(later)})
}

func refusal(code codes.Code, why api.Reason, unknown bool, text string) error {
	return withDetails(code, text, infoFor(why, unknown))
}

func infoFor(why api.Reason, unknown bool) *errdetails.ErrorInfo {
	applied := "no"
	if unknown {
		applied = "unknown"
	}
	return &errdetails.ErrorInfo{
		Reason:   why.String()[len("REASON_"):],
		Domain:   ErrorDomain,
		Metadata: map[string]string{"applied": applied},
	}
}

func withDetails(code codes.Code, text string, details ...protoadapt.MessageV1) error {
	st, err := status.New(code, text).WithDetails(details...)
	if err != nil {
		return status.Error(code, text) // a detail that cannot be packed is left out
	}
	return st.Err()
}
