package jsonapi

import (
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	api "github.com/raftlock/raftlock/api/raftlock/v1"
)

// domain is that of the ErrorInfo of every refusal.
const domain = "raftlock"

// statuses is the one table of reasons: what HTTP's users expect of each. It
// does not hold for outcomes that are unknown.
var statuses = map[api.Reason]int{
	api.Reason_REASON_UNSPECIFIED:   http.StatusInternalServerError,
	api.Reason_REASON_OK:            http.StatusOK,
	api.Reason_REASON_HELD:          http.StatusConflict,
	api.Reason_REASON_NOT_HELD:      http.StatusConflict,
	api.Reason_REASON_NOT_OWNER:     http.StatusForbidden,
	api.Reason_REASON_STALE_TOKEN:   http.StatusPreconditionFailed,
	api.Reason_REASON_LOST:          http.StatusConflict,
	api.Reason_REASON_NOT_FOUND:     http.StatusNotFound,
	api.Reason_REASON_INVALID:       http.StatusBadRequest,
	api.Reason_REASON_QUEUE_FULL:    http.StatusTooManyRequests,
	api.Reason_REASON_NOT_WAITING:   http.StatusConflict,
	api.Reason_REASON_NO_LEADER:     http.StatusServiceUnavailable,
	api.Reason_REASON_NO_QUORUM:     http.StatusServiceUnavailable,
	api.Reason_REASON_RATE_LIMITED:  http.StatusTooManyRequests,
	api.Reason_REASON_DENIED:        http.StatusForbidden,
	api.Reason_REASON_LIMIT:         http.StatusTooManyRequests,
	api.Reason_REASON_SUPERSEDED:    http.StatusConflict,
	api.Reason_REASON_CANCELLED:     http.StatusGatewayTimeout,
	api.Reason_REASON_RELEASED:      http.StatusConflict,
	api.Reason_REASON_REVOKED:       http.StatusConflict,
	api.Reason_REASON_SESSION_ENDED: http.StatusConflict,
	api.Reason_REASON_EXPIRED:       http.StatusConflict,
	api.Reason_REASON_USED_UP:       http.StatusConflict,
	api.Reason_REASON_EXISTS:        http.StatusConflict,
}

// retryAfter is when to come back, for refusals that do not say.
const retryAfter = time.Second

// errorBody is a refusal. Its field names are fixed (design section 11).
type errorBody struct {
	Success bool    `json:"success"`
	Error   problem `json:"error"`
}

type problem struct {
	Reason  string  `json:"reason"`
	Message string  `json:"message"`
	Applied string  `json:"applied"`
	Holder  *holder `json:"holder,omitempty"`
}

// holder is who has the lock.
type holder struct {
	Owner   string `json:"owner"`
	Version uint64 `json:"version"`
	Agent   string `json:"agent,omitempty"`
	Session string `json:"session,omitempty"`
}

// failure is a refusal made here that has another HTTP status than its reason.
type failure struct {
	status int
	error
}

// invalid refuses what was never asked of the API.
func invalid(format string, args ...any) error {
	return local(codes.InvalidArgument, api.Reason_REASON_INVALID, fmt.Sprintf(format, args...))
}

func denied(message string) error {
	return local(codes.PermissionDenied, api.Reason_REASON_DENIED, message)
}

var unknownPath = local(codes.NotFound, api.Reason_REASON_NOT_FOUND,
	"nothing is here: there are /locks, /locks/{key}, /locks/acquire, /locks/renew, /locks/release, /cluster/info, /healthz, /readyz and, where it is served, /metrics")

func local(code codes.Code, why api.Reason, message string) error {
	st, err := status.New(code, message).WithDetails(&errdetails.ErrorInfo{
		Reason: reasonName(why), Domain: domain, Metadata: map[string]string{"applied": "no"},
	})
	if err != nil {
		return status.Error(code, message) // a detail that cannot be packed is left out
	}
	return st.Err()
}

// refuse answers with an error of the API's or of this package's.
func refuse(w http.ResponseWriter, err error) {
	code := 0
	var f failure
	if errors.As(err, &f) {
		code, err = f.status, f.error
	}
	st := status.Convert(err)
	p := problem{Reason: reasonName(api.Reason_REASON_UNSPECIFIED), Message: st.Message(), Applied: "unknown"}
	why, later := api.Reason_REASON_UNSPECIFIED, retryAfter
	for _, d := range st.Details() {
		switch d := d.(type) {
		case *errdetails.ErrorInfo:
			if d.Domain == domain {
				why = api.Reason(api.Reason_value["REASON_"+d.Reason])
				p.Reason, p.Applied, p.Holder = d.Reason, d.Metadata["applied"], holderOf(d.Metadata)
			}
		case *errdetails.RetryInfo:
			later = d.RetryDelay.AsDuration()
		}
	}
	if code == 0 {
		code = statusOf(st.Code(), why, p.Applied)
	}
	if code == http.StatusTooManyRequests || code == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", strconv.Itoa(max(1, int(math.Ceil(later.Seconds())))))
	}
	answer(w, code, errorBody{Error: p})
}

// statusOf is the HTTP status of a refusal. What is not known, and what was not
// waited for, is a gateway's time-out: the answer may be there already.
func statusOf(code codes.Code, why api.Reason, applied string) int {
	s, ok := statuses[why]
	switch {
	case code == codes.Internal, why == api.Reason_REASON_UNSPECIFIED, !ok:
		return http.StatusInternalServerError
	case applied != "no", code == codes.DeadlineExceeded:
		return http.StatusGatewayTimeout
	}
	return s
}

func holderOf(m map[string]string) *holder {
	token, err := strconv.ParseUint(m["holder_token"], 10, 64)
	if err != nil {
		return nil
	}
	return &holder{Owner: m["holder_owner"], Version: token, Agent: m["holder_agent"], Session: m["holder_session"]}
}

func reasonName(r api.Reason) string { return r.String()[len("REASON_"):] }
