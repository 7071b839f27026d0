package raftlock

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	raftlockv1 "github.com/raftlock/raftlock/api/raftlock/v1"
)

// unknownMin is how long, at the least, an agent may not know the session
// before that is believed: after its restart it learns of it by the opener's
// resume, which an election may delay.
const unknownMin = 5 * time.Second

// Member is this process's part in a session that another process opened. The
// session then ends at once only when every process of it is gone, and after
// the opener's death it is kept alive by the members' beats. A member holds no
// locks, sees none, and cannot end the session. All methods are safe from any
// goroutine.
type Member struct {
	cfg  config
	pass Pass
	log  *slog.Logger
	pid  int

	joined  chan struct{} // closed by the first Attached
	done    chan struct{} // closed by finish
	wake    chan struct{} // beats are due, or due sooner; holds one
	stop    context.CancelFunc
	working sync.WaitGroup

	mu       sync.Mutex // guards everything below; never held while something blocks
	stream   uint64     // number of the current or last stream
	attached bool       // on this stream
	once     bool       // joined is closed
	attempt  int        // dials since the last Attached
	downErr  error      // why there is no stream
	reach    raftlockv1.Reason
	ttl      time.Duration
	greeted  time.Duration // the clock when Join was sent
	lastBeat time.Duration
	// unknownSince is when the agent first said that it does not know the
	// session, since the last Attached. 0: it did not.
	unknownSince time.Duration
	err          error
}

// Join adds this process to a session of this host, through the agent that the
// session is attached to, and returns when that is applied in the cluster. It
// waits for the agent and the cluster until ctx ends, and is safe to repeat: a
// process counts once.
//
// The agent watches the process, not the connection. So a process may join and
// then replace itself by another program (exec): the connection closes by that,
// the process stays a member until it exits. What a replaced program does not
// do is beat: once the opener is gone the session lives on for its lease only.
//
// Errors: ErrNotFound (the agent does not know the session), ErrSessionEnded,
// ErrDenied (wrong secret, or a process that the agent cannot watch), ErrLimit,
// ErrClock, ctx's, with ErrNoQuorum or ErrNoLeader where the agent told so.
func (c *Client) Join(ctx context.Context, pass Pass) (*Member, error) {
	m := &Member{
		cfg: c.cfg, pass: pass, pid: c.cfg.getpid(), log: c.cfg.log.With("session", pass.Session()),
		joined: make(chan struct{}), done: make(chan struct{}), wake: make(chan struct{}, 1),
	}
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	m.stop = stop
	m.working.Go(func() { m.run(running) })
	if err := m.awaitJoin(ctx); err != nil {
		m.Close()
		return nil, fmt.Errorf("join session %s at %s: %w", pass.Session(), c.cfg.where(), err)
	}
	return m, nil
}

func (m *Member) awaitJoin(ctx context.Context) error {
	select {
	case <-m.joined:
		return nil
	case <-m.done:
		return m.Err()
	case <-ctx.Done():
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	cause := ctx.Err()
	if m.downErr != nil {
		cause = fmt.Errorf("%w: %w", cause, m.downErr)
	}
	applied := AppliedUnknown
	if m.stream == 0 {
		applied = AppliedNo
	}
	return givenUp(m.reach, applied, cause)
}

// Close leaves the session alone and waits for the member's goroutines. The
// process stays one of the session's until it exits: only its exit can take it
// away. Safe to repeat.
func (m *Member) Close() {
	if m.cfg.getpid() != m.pid {
		return
	}
	m.finish(ErrClosed)
	m.working.Wait()
}

// Done is closed when the session is over, when the member was closed, or when
// another Join of this process to the session took its place. That the session
// is over is heard while a stream is there, or when one is again.
func (m *Member) Done() <-chan struct{} { return m.done }

// Err tells why Done is closed; nil while it is not. ErrClosed after Close,
// ErrSuperseded after another Join, else it is an ErrSessionEnded too.
func (m *Member) Err() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.err
}

func (m *Member) finish(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.finishLocked(err)
}

func (m *Member) finishLocked(err error) {
	if m.err != nil {
		return
	}
	m.err = err
	close(m.done)
	m.stop()
}

// run keeps one stream to the agent, as a session does.
func (m *Member) run(ctx context.Context) {
	for ctx.Err() == nil {
		st, err := m.cfg.dial(ctx)
		if err == nil {
			err = useStream(ctx, st, m.read, m.transmit)
		}
		if ctx.Err() != nil {
			return
		}
		pause := m.down(err)
		m.log.Debug("member's stream broken", "error", err, "pause", pause)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
}

func (m *Member) down(err error) time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.attached, m.downErr = false, err
	ttl := m.ttl
	if ttl == 0 {
		ttl = DefaultTTL
	}
	pause := m.cfg.redialPause(ttl, m.attempt)
	m.attempt++
	return pause
}

// transmit joins, then beats.
func (m *Member) transmit(ctx context.Context, st Stream, read <-chan struct{}) error {
	if err := m.greet(st); err != nil {
		return err
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		pause := m.untilBeat()
		if pause <= 0 {
			if err := m.beat(st); err != nil {
				return err
			}
			continue
		}
		timer.Reset(pause)
		select {
		case <-m.wake:
		case <-timer.C:
		case <-read:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (m *Member) greet(st Stream) error {
	m.mu.Lock()
	m.stream++
	m.attached, m.reach = false, raftlockv1.Reason_REASON_UNSPECIFIED
	m.greeted = m.cfg.clock()
	m.lastBeat = m.greeted
	join := &raftlockv1.Join{Session: m.pass.id[:], Secret: m.pass.secret[:], ClockNanos: uint64(m.greeted)}
	m.mu.Unlock()
	if err := st.Send(&request{Request: &raftlockv1.SessionRequest_Join{Join: join}}); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	return nil
}

func (m *Member) untilBeat() time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.attached {
		return time.Hour
	}
	return m.lastBeat + m.ttl/beatShare - m.cfg.clock()
}

func (m *Member) beat(st Stream) error {
	m.mu.Lock()
	m.lastBeat = m.cfg.clock()
	beat := &raftlockv1.Beat{ClockNanos: uint64(m.lastBeat)}
	m.mu.Unlock()
	if err := st.Send(&request{Request: &raftlockv1.SessionRequest_Beat{Beat: beat}}); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	return nil
}

func (m *Member) read(st Stream) error {
	for {
		resp, err := st.Recv()
		if err != nil {
			return fmt.Errorf("receive: %w", err)
		}
		if err := m.take(resp); err != nil {
			return err
		}
	}
}

// take handles one response; what does not concern a member is passed over. An
// error means that the stream is of no more use.
func (m *Member) take(resp *raftlockv1.SessionResponse) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch r := resp.Response.(type) {
	case *raftlockv1.SessionResponse_Attached:
		return m.takeAttached(r.Attached)
	case *raftlockv1.SessionResponse_Reach:
		m.reach = r.Reach.GetReason()
	case *raftlockv1.SessionResponse_Ended:
		err := overFor(r.Ended.GetReason())
		if err.Reason == raftlockv1.Reason_REASON_SUPERSEDED {
			// The session lives on; another stream of this process speaks for it.
			m.finishLocked(err)
			return m.err
		}
		return m.refuse(err)
	}
	return nil
}

// takeAttached takes the answer to Join, and later ones as news of the TTL.
func (m *Member) takeAttached(a *raftlockv1.Attached) error {
	if a.GetReason() != raftlockv1.Reason_REASON_OK {
		return m.notAttached(a)
	}
	now := m.cfg.clock()
	if clock := reading(a.GetClockNanos()); !m.attached && (clock < m.greeted || clock > now) {
		return m.refuse(fmt.Errorf("%w: asked at %v, answered at %v by the agent's, %v by ours", ErrClock, m.greeted, clock, now))
	}
	m.ttl = max(reading(a.GetTtlNanos()), TTLMin)
	m.attached, m.attempt, m.downErr, m.unknownSince = true, 0, nil, 0
	if !m.once {
		m.once = true
		close(m.joined)
	}
	nudge(m.wake)
	return nil
}

// notAttached sorts refusals: what time may mend is tried again on a new
// stream, the rest is final.
func (m *Member) notAttached(a *raftlockv1.Attached) error {
	err := error(refused(a.GetReason(), a.GetDetail()))
	switch a.GetReason() {
	case raftlockv1.Reason_REASON_NO_LEADER, raftlockv1.Reason_REASON_NO_QUORUM,
		raftlockv1.Reason_REASON_QUEUE_FULL, raftlockv1.Reason_REASON_RATE_LIMITED,
		raftlockv1.Reason_REASON_UNSPECIFIED:
		return err
	case raftlockv1.Reason_REASON_NOT_FOUND:
		if now := m.cfg.clock(); m.unknownSince == 0 {
			m.unknownSince = now
			return err
		} else if now < m.unknownSince+max(unknownMin, 2*m.ttl) {
			return err
		}
	}
	return m.refuse(err)
}

// refuse ends the member. Of one that had joined, that is the session's end.
func (m *Member) refuse(err error) error {
	if m.once {
		err = endedFor(err)
	}
	m.finishLocked(err)
	return err
}
