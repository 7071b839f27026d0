package raftlock

import (
	"context"
	"fmt"
	"maps"
	"time"
	"unicode"
	"unicode/utf8"

	raftlockv1 "github.com/raftlock/raftlock/api/raftlock/v1"
	"github.com/raftlock/raftlock/internal/mutant"
)

// Bounds of the cluster, checked here too: a name that is no UTF-8 could not
// even be sent.
const (
	nameBytesMax     = 512
	metadataBytesMax = 4 << 10
)

type lockState uint8

const (
	lockAsked     lockState = iota // no answer yet
	lockWaiting                    // in the queue
	lockHeld                       // granted
	lockReleasing                  // unlocked, not answered yet
	lockOver                       // released, lost, failed or cancelled: final
)

// Lock is a handle: one granted acquire. Once it is unlocked or lost it stays
// so. All methods are safe from any goroutine.
type Lock struct {
	session *Session
	name    string
	seq     uint64
	ctx     context.Context
	cancel  context.CancelCauseFunc
	ready   chan struct{} // closed when it was granted or failed
	lost    chan struct{}
	revoked chan struct{}

	// Guarded by the session's mutex.
	state    lockState
	token    uint64
	deadline time.Duration
	stream   uint64 // the last stream that spoke of it
	frozen   bool   // revoked: no lease moves it
	gone     raftlockv1.Reason
	release  *call
	err      error // why it is over
}

// LockOption is something to ask for with a lock.
type LockOption func(*raftlockv1.Acquire)

// WithPriority moves a wait before all of lower priority. Default 0.
func WithPriority(p int32) LockOption { return func(a *raftlockv1.Acquire) { a.Priority = p } }

// WithMetadata attaches what people should know of the holder, up to 4 KiB.
func WithMetadata(m map[string]string) LockOption {
	m = maps.Clone(m)
	return func(a *raftlockv1.Acquire) { a.Metadata = m }
}

// Lock takes the lock, waiting for its turn until ctx ends. The place in the
// queue survives broken streams, agents and leaders. If ctx ends first, the
// error is ctx's too, and whatever became of the request is undone behind the
// caller's back. It is ErrNoQuorum or ErrNoLeader as well if the agent had told
// that it reaches nobody who could answer; AppliedNo then means that the
// request never left this process. Other errors: ErrInvalid, ErrDenied, ErrLimit, ErrQueueFull,
// ErrSessionEnded; ErrLost if the grant came too late to be used (safe to
// repeat).
func (s *Session) Lock(ctx context.Context, name string, opts ...LockOption) (*Lock, error) {
	return s.acquire(ctx, &raftlockv1.Acquire{Lock: name}, opts)
}

// TryLock takes the lock if it is free, else fails with ErrHeld. Otherwise as
// Lock.
func (s *Session) TryLock(ctx context.Context, name string, opts ...LockOption) (*Lock, error) {
	return s.acquire(ctx, &raftlockv1.Acquire{Lock: name, Try: true}, opts)
}

func (s *Session) acquire(ctx context.Context, a *raftlockv1.Acquire, opts []LockOption) (*Lock, error) {
	if s.forked() {
		return nil, ErrForked
	}
	for _, o := range opts {
		o(a)
	}
	span, t := s.begin(ctx, spanAcquire)
	if span.IsRecording() {
		span.SetAttributes(attrLock.String(a.Lock), attrTry.Bool(a.Try))
	}
	l, err := s.obtain(ctx, a, t)
	endAcquire(span, l, err)
	return l, err
}

// obtain asks, and waits for what becomes of it.
func (s *Session) obtain(ctx context.Context, a *raftlockv1.Acquire, t *raftlockv1.Trace) (*Lock, error) {
	l, err := s.ask(ctx, a, t)
	if err != nil {
		return nil, fmt.Errorf("lock %q: %w", a.Lock, err)
	}
	select {
	case <-l.ready:
	case <-ctx.Done():
	}
	if err := s.obtained(ctx, l); err != nil {
		return nil, fmt.Errorf("lock %q: %w", a.Lock, err)
	}
	return l, nil
}

// ask makes the acquire's call.
func (s *Session) ask(ctx context.Context, a *raftlockv1.Acquire, t *raftlockv1.Trace) (*Lock, error) {
	if err := bounded(a); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sweep(s.cfg.clock())
	if err := s.refuses(); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, &Error{Reason: raftlockv1.Reason_REASON_CANCELLED, Applied: AppliedNo, cause: err}
	}
	if len(s.calls)+len(s.owed) >= callsMax {
		return nil, refused(raftlockv1.Reason_REASON_QUEUE_FULL, fmt.Sprintf("%d requests are unanswered", callsMax))
	}
	l := &Lock{session: s, name: a.Lock, ready: make(chan struct{}), lost: make(chan struct{}), revoked: make(chan struct{})}
	// The lock outlives the call that asked for it, and keeps its values.
	l.ctx, l.cancel = context.WithCancelCause(context.WithoutCancel(ctx))
	c := s.newCall(func(seq uint64) *request {
		a.Seq = seq
		return &request{Trace: t, Request: &raftlockv1.SessionRequest_Acquire{Acquire: a}}
	})
	c.lock, c.acquire, l.seq = l, true, c.seq
	s.locks[l.seq] = l
	return l, nil
}

// obtained decides what the caller gets: the lock if it is held by now, else
// why not.
func (s *Session) obtained(ctx context.Context, l *Lock) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sweep(s.cfg.clock())
	switch l.state {
	case lockHeld:
		return nil
	case lockOver:
		return l.err
	}
	c := s.calls[l.seq]
	err := s.givenUpLocked("", AppliedUnknown, ctx.Err())
	switch {
	case c == nil:
		// It was answered, and waited: what the agent reaches now is not why.
		err = givenUp(raftlockv1.Reason_REASON_OK, AppliedUnknown, s.obstacleLocked(ctx.Err()))
	case !c.sent:
		err.Applied = AppliedNo
	}
	s.fail(l, err)
	if c != nil {
		s.drop(c, err)
	}
	if err.Applied == AppliedNo {
		s.acks.add(l.seq) // it was never sent
		return err
	}
	s.owe(&debt{seq: l.seq, unanswered: c != nil})
	return err
}

// refuses says why no new request is taken.
func (s *Session) refuses() error {
	switch {
	case s.err != nil:
		return s.err
	case s.closing:
		return refused(raftlockv1.Reason_REASON_SESSION_ENDED, "closed")
	}
	return nil
}

func bounded(a *raftlockv1.Acquire) error {
	if err := boundedName(a.Lock); err != nil {
		return err
	}
	size := 0
	for k, v := range a.Metadata {
		if size += len(k) + len(v); !utf8.ValidString(k) || !utf8.ValidString(v) {
			return invalid("metadata is UTF-8")
		}
	}
	if size > metadataBytesMax {
		return invalid("metadata has at most %d bytes", metadataBytesMax)
	}
	return nil
}

func boundedName(name string) error {
	if len(name) == 0 || len(name) > nameBytesMax {
		return invalid("a lock's name has 1 to %d bytes", nameBytesMax)
	}
	if !utf8.ValidString(name) {
		return invalid("a lock's name is UTF-8")
	}
	for _, r := range name {
		if unicode.IsControl(r) {
			return invalid("a lock's name has no control characters")
		}
	}
	return nil
}

// Name is the lock's name.
func (l *Lock) Name() string { return l.name }

// Lost is closed when the handle was lost, or its session is over. It follows
// the deadline as fast as the scheduler lets it; Valid does not lag.
func (l *Lock) Lost() <-chan struct{} { return l.lost }

// Revoked is closed when an administrator wants the lock back. It is
// still held, until it is unlocked or its deadline passes, which nothing moves
// any more.
func (l *Lock) Revoked() <-chan struct{} { return l.revoked }

// Context carries the values of the context given to Lock, and is cancelled
// when the handle is lost or unlocked; context.Cause tells which.
func (l *Lock) Context() context.Context { return l.ctx }

// Valid reports whether the lock is held now: the clock is compared with V.
func (l *Lock) Valid() bool {
	_, err := l.Token()
	return err == nil
}

// Token returns the fencing token of the grant, if the lock is held now: the
// clock is compared with V. Errors: ErrLost, ErrReleased, ErrForked.
func (l *Lock) Token() (uint64, error) {
	s := l.session
	if s.forked() {
		return 0, ErrForked
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sweep(s.cfg.clock())
	switch {
	case l.state == lockHeld:
		return l.token, nil
	case l.state == lockOver && l.err != nil:
		return 0, l.err
	}
	return 0, refused(raftlockv1.Reason_REASON_RELEASED, "")
}

// Deadline is the handle's V: the reading of the host's clock (CLOCK_BOOTTIME)
// until which it is held, as far as the agent has vouched. Renewals move it; a
// revoked handle's stands still. Of a handle that is not held: when it ended,
// or before.
func (l *Lock) Deadline() time.Duration {
	s := l.session
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sweep(s.cfg.clock())
	return l.deadline
}

// Left is how long the handle is held if no renewal comes any more: V less the
// clock's reading, taken in this call. Zero: not held.
func (l *Lock) Left() time.Duration {
	s := l.session
	if s.forked() {
		return 0
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.cfg.clock()
	s.sweep(now)
	if l.state != lockHeld {
		return 0
	}
	return l.deadline - now
}

// Unlock gives the lock up and returns when that is applied. The handle is
// invalid from the call on. It works with a context that is over (the request
// it belonged to was cancelled): it then waits a few seconds at most. If ctx
// ends while it waits, the release goes on, the error says AppliedUnknown, and
// Unlock may be called again to wait further: repeated calls tell the outcome
// of the first. Errors: ErrLost if it had been lost, ErrSessionEnded, ctx's.
func (l *Lock) Unlock(ctx context.Context) error {
	s := l.session
	if s.forked() {
		return ErrForked
	}
	span, t := s.begin(ctx, spanRelease)
	if span.IsRecording() {
		span.SetAttributes(attrLock.String(l.name))
	}
	err := l.unlock(ctx, t)
	endRelease(span, err)
	return err
}

func (l *Lock) unlock(ctx context.Context, t *raftlockv1.Trace) error {
	s := l.session
	c, err := l.startRelease(t)
	if c == nil {
		return l.explained(err)
	}
	ctx, cancel := s.grace(ctx)
	defer cancel()
	select {
	case <-c.done:
		return l.explained(c.err)
	case <-ctx.Done():
		return l.explained(s.givenUp("", AppliedUnknown, ctx.Err()))
	}
}

func (l *Lock) explained(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("unlock %q: %w", l.name, err)
}

// startRelease returns the release under way, or how it ended.
func (l *Lock) startRelease(t *raftlockv1.Trace) (*call, error) {
	s := l.session
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sweep(s.cfg.clock())
	switch {
	case l.release != nil:
		return l.release, nil
	case l.state != lockHeld:
		return nil, l.err
	}
	l.state = lockReleasing
	l.cancel(refused(raftlockv1.Reason_REASON_RELEASED, ""))
	l.release = s.newCall(func(seq uint64) *request {
		return &request{Trace: t, Request: &raftlockv1.SessionRequest_Release{
			Release: &raftlockv1.Release{Seq: seq, Hold: l.seq, Token: l.token}}}
	})
	l.release.lock = l
	return l.release, nil
}

// freeze marks a hold as revoked.
func (l *Lock) freeze() {
	if !l.frozen {
		l.frozen = true
		close(l.revoked)
	}
}

// over ends a handle; err is nil if it was unlocked.
func (s *Session) over(l *Lock, err error) {
	if l.state == lockOver {
		return
	}
	l.state, l.err = lockOver, err
	delete(s.locks, l.seq)
	l.cancel(err)
}

// fail ends an acquire that was not granted.
func (s *Session) fail(l *Lock, err error) {
	s.over(l, err)
	close(l.ready)
}

// lose ends a handle whatever its state; err says why.
func (s *Session) lose(l *Lock, err error) {
	switch l.state {
	case lockAsked, lockWaiting:
		s.fail(l, err)
		return
	case lockReleasing, lockOver:
		s.over(l, err)
		return
	}
	s.over(l, err)
	select {
	case <-l.ready:
		close(l.lost)
		s.lostLog = append(s.lostLog, l)
		nudge(s.look)
	default:
		close(l.ready) // granted too late to be reported
	}
}

// loseAndGiveBack loses a hold by our own judgement: the cluster still has it.
func (s *Session) loseAndGiveBack(l *Lock, err error) {
	s.lose(l, err)
	if mutant.On("sdk-lost-release") {
		return
	}
	s.owe(&debt{seq: l.seq, token: l.token})
}
