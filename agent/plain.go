package agent

import (
	"bytes"
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/raftlock/raftlock/agent/session"
	api "github.com/raftlock/raftlock/api/raftlock/v1"
	"github.com/raftlock/raftlock/fsm/command"
	"github.com/raftlock/raftlock/lease"
	"github.com/raftlock/raftlock/link/linkpb"
	"github.com/raftlock/raftlock/telemetry"
)

const (
	// plainTTL is what an acquire gets that names none.
	plainTTL = 30 * time.Second
	// A wait is never longer than the longest lease.
	plainWaitMax = time.Duration(command.TTLNanosMax)
	// A wait is renewed by an entry of the log every third of its TTL, which no
	// rate counts: a shorter TTL than this is raised.
	plainWaitTTLMin = time.Second
	// A wait that is over has this long to see its cancel applied, so that its
	// caller hears whether anything is left of it.
	plainCancelTimeout = 5 * time.Second
	// A hold is handed out with this much of its TTL left at the least; with
	// less it is renewed first.
	plainAheadFraction = 6
	requestIDBytes     = 16
)

// Acquire takes a lock for a caller without a session, or renews it for the
// owner that holds it.
func (s *API) Acquire(ctx context.Context, q *api.AcquireRequest) (*api.AcquireResponse, error) {
	identity, err := s.identity(ctx)
	if err != nil {
		return nil, err
	}
	leave, err := s.counted(ctx)
	if err != nil {
		s.a.cfg.Metrics.Acquired(telemetry.Refused)
		return nil, err
	}
	defer leave()
	ask, err := s.plainAsk(q, identity)
	if err != nil {
		return nil, err
	}
	wait := time.Duration(min(q.GetWaitNanos(), uint64(plainWaitMax)))
	ctx, cancel := boundedBy(ctx, wait+readTimeout)
	defer cancel()
	within := ctx
	if wait > 0 {
		var over context.CancelFunc
		within, over = context.WithTimeout(ctx, wait)
		defer over()
	}
	l, err := s.take(within, ask)
	if err != nil {
		return nil, s.waitOver(ctx, q, err)
	}
	return &api.AcquireResponse{Lock: l}, nil
}

// plainAsk is the command of an acquire. A TTL below the least is refused, not
// raised. A request id is made for a wait that has
// none, and left out where nothing waits: a hold that is answered to one could
// be taken back by its name.
func (s *API) plainAsk(q *api.AcquireRequest, identity string) (*command.PlainAcquire, error) {
	a := &command.PlainAcquire{
		Lock: q.Lock, Owner: q.Owner, TtlNanos: uint64(plainTTL), Priority: q.Priority, Identity: s.a.sessions.Whose(identity),
	}
	if q.TtlNanos != nil {
		a.TtlNanos = *q.TtlNanos
	}
	for k, v := range q.Metadata {
		a.Metadata = append(a.Metadata, &command.Pair{Key: k, Value: v})
	}
	slices.SortFunc(a.Metadata, func(x, y *command.Pair) int { return cmp.Compare(x.Key, y.Key) })
	if q.GetWaitNanos() == 0 {
		return a, nil
	}
	if a.TtlNanos >= command.TTLNanosMin {
		a.TtlNanos = max(a.TtlNanos, uint64(plainWaitTTLMin))
	}
	a.RequestId = q.RequestId
	if a.RequestId == "" {
		var b [requestIDBytes]byte
		s.drawing.Lock()
		_, err := io.ReadFull(s.a.cfg.Rand, b[:])
		s.drawing.Unlock()
		if err != nil {
			return nil, s.refusal(fmt.Errorf("draw a request id: %w", err), reads)
		}
		a.RequestId = hex.EncodeToString(b[:])
	}
	return a, nil
}

// take asks for a lock until it is told yes, with enough of the lease left to
// use, or no. An error that is a *session.WaitOver is not a refusal yet.
func (s *API) take(ctx context.Context, a *command.PlainAcquire) (*api.PlainLock, error) {
	r, err := s.a.sessions.PlainAcquire(ctx, a)
	var over *session.WaitOver
	switch {
	case errors.As(err, &over):
		return nil, over
	case err != nil:
		return nil, s.refusal(err, changes)
	}
	if no := answered(a.Lock, r.Result); no != nil {
		return nil, no
	}
	return s.plainLock(a.Lock, a.Owner, r), nil
}

// waitOver says what became of a wait that was given up, because its time was
// over or by its caller, who hears nothing. HELD is said only if nothing is left
// of it.
func (s *API) waitOver(ctx context.Context, q *api.AcquireRequest, err error) error {
	var over *session.WaitOver
	if !errors.As(err, &over) {
		return err
	}
	unsent := errors.Is(err, session.ErrNotSent) && !errors.Is(err, session.ErrUnknown)
	if errors.Is(ctx.Err(), context.Canceled) || unsent {
		return s.refusal(err, changes)
	}
	// The caller's own deadline may end sooner: then it does not hear of this.
	left, cancel := context.WithTimeout(context.WithoutCancel(ctx), plainCancelTimeout)
	defer cancel()
	if !over.Cancelled(left) {
		// By now it may be known why nobody answers.
		return s.refusal(errors.Join(session.ErrUnknown, unreached[s.a.Reach()], err), changes)
	}
	var holder *api.Holder
	if r, err := s.get(left, &api.GetRequest{Lock: q.Lock}); err == nil {
		holder = r.Lock.Holder
	}
	return refusedWith("try again later, or wait longer", api.Reason_REASON_HELD, "the wait is over, and somebody else holds the lock", holder)
}

var unreached = map[api.Reason]error{
	api.Reason_REASON_NO_LEADER: session.ErrNoLeader,
	api.Reason_REASON_NO_QUORUM: session.ErrNoQuorum,
}

// Renew moves the deadline of a plain hold.
func (s *API) Renew(ctx context.Context, q *api.RenewRequest) (*api.RenewResponse, error) {
	identity, err := s.identity(ctx)
	if err != nil {
		return nil, err
	}
	if err := s.admitRenewal(identity); err != nil {
		return nil, err
	}
	ctx, cancel := bounded(ctx)
	defer cancel()
	c := &command.PlainRenew{Lock: q.Lock, Owner: q.Owner, Token: q.Token, TtlNanos: q.GetTtlNanos()}
	if q.Token == 0 || q.TtlNanos == nil {
		held, err := s.heldAs(ctx, q.Lock, q.Owner)
		if err != nil {
			return nil, err
		}
		c.Token = cmp.Or(c.Token, held.Holder.Token)
		if q.TtlNanos == nil {
			c.TtlNanos = held.TtlNanos
		}
	}
	for {
		r, err := s.a.sessions.Ask(ctx, &command.Command{Kind: &command.Command_PlainRenew{PlainRenew: c}})
		if err != nil {
			return nil, s.refusal(err, changes)
		}
		if no := answered(q.Lock, r.Result); no != nil {
			return nil, no
		}
		if l := s.plainLock(q.Lock, q.Owner, r); s.ahead(l) {
			return &api.RenewResponse{Lock: l}, nil
		}
	}
}

// Release gives a plain hold up.
func (s *API) Release(ctx context.Context, q *api.ReleaseRequest) (*api.ReleaseResponse, error) {
	if _, err := s.identity(ctx); err != nil {
		return nil, err
	}
	ctx, cancel := bounded(ctx)
	defer cancel()
	out := &api.PlainLock{Lock: q.Lock, Owner: q.Owner, Token: q.Token}
	if q.Token == 0 {
		held, err := s.heldAs(ctx, q.Lock, q.Owner)
		if err != nil {
			return nil, err
		}
		out.Token, out.TtlNanos = held.Holder.Token, held.TtlNanos
	}
	r, err := s.a.sessions.Ask(ctx, &command.Command{Kind: &command.Command_PlainRelease{PlainRelease: &command.PlainRelease{
		Lock: q.Lock, Owner: q.Owner, Token: out.Token,
	}}})
	if err != nil {
		return nil, s.refusal(err, changes)
	}
	out.TtlNanos = max(out.TtlNanos, r.TtlNanos)
	no := answered(q.Lock, r.Result)
	if no != nil && !(r.Repeated && givenUp[r.Code]) {
		return nil, no
	}
	return &api.ReleaseResponse{Lock: out}, nil
}

// givenUp are the answers to a release that was applied before, at its first
// sending: the token holds no more.
var givenUp = map[command.Code]bool{
	command.Code_CODE_NOT_HELD:    true,
	command.Code_CODE_NOT_OWNER:   true,
	command.Code_CODE_STALE_TOKEN: true,
}

// heldAs reads a lock for a release or renewal, and refuses if owner does not
// hold it plainly. No load refuses the read, which would refuse them.
func (s *API) heldAs(ctx context.Context, lock, owner string) (*api.LockInfo, error) {
	if complaint := command.Valid(&command.Command{Kind: &command.Command_PlainRelease{PlainRelease: &command.PlainRelease{
		Lock: lock, Owner: owner, Token: 1,
	}}}); complaint != "" {
		return nil, refused(api.Reason_REASON_INVALID, complaint)
	}
	r, err := s.getBy(ctx, &linkpb.Query{Upkeep: true, Query: &linkpb.Query_Get{Get: &linkpb.GetLock{Lock: lock}}})
	if err != nil {
		return nil, err
	}
	switch l := r.Lock; {
	case !l.Held:
		return nil, refusedFor(api.Reason_REASON_NOT_HELD, "nobody holds the lock", nil)
	case len(l.Holder.Session) != 0 || l.Holder.Owner != owner:
		return nil, refusedFor(api.Reason_REASON_NOT_OWNER, "somebody else holds the lock", l.Holder)
	default:
		return l, nil
	}
}

// plainLock is a hold as it was answered. V is reckoned with the TTL in force,
// by which D moved when the command was applied: another user of the owner's
// name may have asked for a longer one.
func (s *API) plainLock(lock, owner string, r session.Reply) *api.PlainLock {
	l := &api.PlainLock{Lock: lock, Owner: owner, Token: r.Standings[0].Token, TtlNanos: r.TtlNanos}
	v := lease.HolderDeadline(r.Sent, time.Duration(r.TtlNanos))
	l.DeadlineNanos = uint64(v)
	l.ExpiresUnixNanos = s.a.cfg.Wall().Add(v - s.a.cfg.Clock()).UnixNano()
	return l
}

// ahead reports that V is far enough away for the hold to be of use.
func (s *API) ahead(l *api.PlainLock) bool {
	return time.Duration(l.DeadlineNanos)-s.a.cfg.Clock() >= time.Duration(l.TtlNanos)/plainAheadFraction
}

// answered is the refusal that a plain request was answered with; nil: it holds,
// or its lock was given up. Of a revoked hold nothing is renewed, and this agent
// may not know its V: nobody is told that it holds until then.
func answered(lock string, r *command.Result) error {
	switch {
	case r.Code != command.Code_CODE_OK:
		return refusedFor(session.ReasonOf(r.Code), r.Detail, apiHolder(lock, r.Holder))
	case len(r.Standings) == 1 && r.Standings[0].Revoked:
		return refusedFor(api.Reason_REASON_REVOKED, fmt.Sprintf(
			"the lock is held with token %d, and is wanted back, so it is not renewed any more", r.Standings[0].Token), nil)
	}
	return nil
}

// apiHolder tells applications who has a lock. The implicit session of a plain
// hold is nobody's business: none is named.
func apiHolder(lock string, h *command.Holder) *api.Holder {
	if h == nil {
		return nil
	}
	out := &api.Holder{Owner: h.Owner, Agent: h.Agent, Token: h.Token}
	if id := command.PlainID(h.Owner, lock); !bytes.Equal(id[:], h.Session) {
		out.Session = h.Session
	}
	return out
}
