package raftlock

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"sync"
	"time"

	"go.opentelemetry.io/otel/trace"

	raftlockv1 "github.com/raftlock/raftlock/api/raftlock/v1"
)

const (
	// graceMax bounds how long Unlock and Close wait when they are given a
	// context that is over already: the request that it belonged to is gone,
	// the lock must still be given back.
	graceMax = 5 * time.Second
	// callsMax bounds the requests of a session that are not answered yet,
	// while a stream is there and while none is. Releases are beyond it: holds
	// bound them.
	callsMax = 1024
)

// Client knows how to reach an agent. Each session and each member makes a
// connection of its own and is closed by itself; reads share one, which the
// first of them makes and Client.Close closes. A client that never read has
// nothing to close. All methods are safe from any goroutine.
type Client struct {
	cfg   config
	reads reader
}

// Dial checks the options and returns a client. It does not connect: Session
// does. Errors: ErrInvalid, ErrClock.
func Dial(_ context.Context, opts ...Option) (*Client, error) {
	cfg, err := defaults().with(opts)
	if err != nil {
		return nil, err
	}
	return &Client{cfg: cfg}, nil
}

// NewSession is Dial and Client.Session in one: until ctx ends it waits for the
// agent to be there and for the cluster to answer. With a context that never
// ends, and no agent, it waits for ever; WithLogger shows what it waits for.
func NewSession(ctx context.Context, opts ...Option) (*Session, error) {
	c, err := Dial(ctx, opts...)
	if err != nil {
		return nil, err
	}
	return c.Session(ctx)
}

// phase is how far the current stream has come.
type phase uint8

const (
	phaseDown        phase = iota // no stream
	phaseAttaching                // Open or Resume sent
	phaseReconciling              // Reconcile sent
	phaseReady                    // requests flow
)

// Session is the unit of liveness: its locks and waits live as long as it, and
// it lives as long as its process, its agent and the cluster keep it alive. All
// methods are safe from any goroutine.
type Session struct {
	cfg        config
	id, secret []byte
	log        *slog.Logger
	tracer     trace.Tracer
	pid        int

	opened  chan struct{} // closed by the first Attached
	done    chan struct{} // closed by finish
	wake    chan struct{} // something to send; holds one
	look    chan struct{} // a deadline came nearer, or something to log; holds one
	stop    context.CancelFunc
	working sync.WaitGroup

	// mu guards everything below and every Lock. It is never held while
	// something blocks, sends or logs.
	mu           sync.Mutex
	phase        phase
	stream       uint64            // number of the current or last stream, from 1
	attempt      int               // dials since the last Attached
	downErr      error             // why there is no stream
	resume       bool              // Open was answered: say Resume
	attachedOnce bool              // opened is closed
	bound        bool              // the end of the stream ends the session
	reach        raftlockv1.Reason // as this stream's agent told last
	greeted      time.Duration
	greeter      uint64 // the sequence of the Open or Resume in flight
	lastBeat     time.Duration
	v            time.Duration
	soonest      time.Duration // no hold's V is earlier

	seq   uint64 // the last one made
	acks  acks
	calls map[uint64]*call // unanswered, by sequence
	locks map[uint64]*Lock // asked for, waiting, held, releasing; by the acquire's sequence
	owed  map[uint64]*debt // what must be given back; by the acquire's sequence
	named map[uint64]bool  // what this stream's Reconcile named
	out   []parcel         // to be sent on this stream

	ttl     ttls
	ttlCall *call
	lostLog []*Lock
	closing bool
	refusal error // the session was opened, but cannot be used
	err     error // why it is over
}

// Session opens a session. Until ctx ends it waits for the agent to be there
// and for the cluster to answer; then the error names the socket and the last
// obstacle, and is ErrNoQuorum or ErrNoLeader too where the agent told so.
// Errors: ErrDenied, ErrLimit, ErrInvalid, ErrClock, ctx's. A session whose
// opening failed may live on in the cluster for one TTL; it holds nothing.
func (c *Client) Session(ctx context.Context, opts ...Option) (*Session, error) {
	cfg, err := c.cfg.with(opts)
	if err != nil {
		return nil, err
	}
	s := &Session{
		cfg: cfg, pid: cfg.getpid(), id: make([]byte, 16), secret: make([]byte, 32),
		opened: make(chan struct{}), done: make(chan struct{}),
		wake: make(chan struct{}, 1), look: make(chan struct{}, 1),
		calls: map[uint64]*call{}, locks: map[uint64]*Lock{}, owed: map[uint64]*debt{},
		ttl: ttls{current: cfg.ttl},
	}
	for _, secret := range [][]byte{s.id, s.secret} {
		if _, err := io.ReadFull(cfg.rand, secret); err != nil {
			return nil, fmt.Errorf("make a session id: %w", err)
		}
	}
	s.log = cfg.log.With("session", hex.EncodeToString(s.id))
	s.tracer = cfg.tracer()
	s.start(ctx)
	if err := s.awaitOpen(ctx); err != nil {
		s.stop()
		s.working.Wait()
		s.finishWith(err)
		return nil, err
	}
	return s, nil
}

func (s *Session) start(ctx context.Context) {
	// ctx bounds the opening; the session outlives it and keeps its values.
	ctx, s.stop = context.WithCancel(context.WithoutCancel(ctx))
	s.working.Go(func() { s.run(ctx) })
	s.working.Go(func() { s.watch(ctx) })
}

func (s *Session) awaitOpen(ctx context.Context) error {
	select {
	case <-s.opened:
	case <-s.done:
		return fmt.Errorf("open a session with %s: %w", s.cfg.where(), s.Err())
	case <-ctx.Done():
		return fmt.Errorf("open a session with %s: %w", s.cfg.where(), s.unopened(ctx.Err()))
	}
	s.mu.Lock()
	refusal := s.refusal
	s.mu.Unlock()
	if refusal == nil {
		return nil
	}
	// It is open all the same, so end it; it holds nothing, so failing is no harm.
	_ = s.Close(ctx)
	return fmt.Errorf("open a session with %s: %w", s.cfg.where(), refusal)
}

func (s *Session) unopened(err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	applied := AppliedUnknown
	if s.stream == 0 {
		applied = AppliedNo // no stream was ever there to ask on
	}
	return s.givenUpLocked("", applied, err)
}

// givenUp is what a call fails with whose context ended before its answer.
func (s *Session) givenUp(detail string, applied Applied, err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.givenUpLocked(detail, applied, err)
}

func (s *Session) givenUpLocked(detail string, applied Applied, err error) *Error {
	e := givenUp(s.reach, applied, s.obstacleLocked(err))
	e.Detail = detail
	return e
}

// obstacleLocked adds to a context's error what stood in the way.
func (s *Session) obstacleLocked(err error) error {
	if s.downErr == nil || s.phase == phaseReady {
		return err
	}
	return fmt.Errorf("%w: no session stream to %s: %w", err, s.cfg.where(), s.downErr)
}

// Done is closed when the session is over: closed, ended or superseded. Every
// lock of it is lost then.
func (s *Session) Done() <-chan struct{} { return s.done }

// Err tells why the session is over; nil while it is not. It is always an
// ErrSessionEnded too.
func (s *Session) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// TTL is the TTL in force, as far as the agent has told.
func (s *Session) TTL() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ttl.current
}

// Deadline is the session's V: the reading of the host's clock until which the
// agent has vouched for it. A lock's own deadline may be earlier.
func (s *Session) Deadline() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.v
}

// StreamBound reports that the agent cannot watch this process (an old kernel,
// or another PID namespace on one), so that the end of the session's stream
// ends the session: an agent's restart loses every lock. False before the agent
// told.
func (s *Session) StreamBound() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bound
}

// Close ends the session: every lock is given back and every wait left, in one
// step. It returns when that is applied, or when ctx ends; then the lease runs
// out by itself, and the error says so. A ctx that is over already is replaced
// by a wait of a few seconds at most. Close waits for the session's goroutines,
// is safe to repeat, and is the only method to be called when all is over.
func (s *Session) Close(ctx context.Context) error {
	if s.forked() {
		return ErrForked
	}
	s.mu.Lock()
	s.sweep(s.cfg.clock())
	if !s.closing && s.err == nil {
		s.closing = true
		s.abandon(refused(raftlockv1.Reason_REASON_SESSION_ENDED, "closed"))
		if s.phase == phaseReady {
			s.flush()
		}
	}
	s.mu.Unlock()
	nudge(s.wake)

	ctx, cancel := s.grace(ctx)
	defer cancel()
	var err error
	select {
	case <-s.done:
	case <-ctx.Done():
		err = s.givenUp("close session: it ends with its lease", AppliedUnknown, ctx.Err())
	}
	s.stop()
	s.working.Wait()
	s.finishWith(refused(raftlockv1.Reason_REASON_SESSION_ENDED, "closed"))
	return err
}

// grace replaces a context that is over by a bounded one.
func (s *Session) grace(ctx context.Context) (context.Context, context.CancelFunc) {
	if ctx.Err() == nil {
		return ctx, func() {}
	}
	return context.WithTimeout(context.WithoutCancel(ctx), min(s.TTL(), graceMax))
}

func (s *Session) forked() bool { return s.cfg.getpid() != s.pid }

func (s *Session) finishWith(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.finish(err)
}

// finish ends the session for this process: all is lost, nothing is sent any
// more. Only the first call counts.
func (s *Session) finish(cause error) {
	if s.err != nil {
		return
	}
	ended := endedFor(cause)
	var e *Error
	if errors.As(cause, &e) && e.Reason == raftlockv1.Reason_REASON_SESSION_ENDED {
		ended = e
	}
	s.err = ended
	s.abandon(ended)
	clear(s.owed)
	s.out = nil
	close(s.done)
	s.stop()
}

// abandon loses every hold and fails every wait and request. What was sent may
// have had its effect before the session ended.
func (s *Session) abandon(err *Error) {
	for _, l := range s.locks {
		switch c := s.calls[l.seq]; {
		case l.state == lockHeld:
			s.lose(l, &Error{Reason: raftlockv1.Reason_REASON_LOST, Applied: AppliedNo, cause: err})
		case c != nil && !c.sent:
			s.lose(l, err)
		default:
			s.lose(l, err.unknown())
		}
	}
	for _, c := range s.calls {
		if c.sent {
			s.drop(c, err.unknown())
		} else {
			s.drop(c, err)
		}
	}
}

// sweep loses every hold whose V has passed. Everything that looks at a hold or
// moves a V comes here first, with a reading taken for it: that is what makes a
// loss final.
func (s *Session) sweep(now time.Duration) {
	if now < s.soonest {
		return
	}
	s.soonest = math.MaxInt64
	for _, l := range s.locks {
		switch {
		case l.state != lockHeld:
		case now >= l.deadline:
			s.loseAndGiveBack(l, lostFor(raftlockv1.Reason_REASON_LOST, "its deadline passed"))
		default:
			s.soonest = min(s.soonest, l.deadline)
		}
	}
}

// expect notes that a hold's V is now v: new, or earlier than before.
func (s *Session) expect(v time.Duration) {
	s.soonest = min(s.soonest, v)
	nudge(s.look)
}

func nudge(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
