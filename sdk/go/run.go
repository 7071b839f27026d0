package raftlock

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	raftlockv1 "github.com/raftlock/raftlock/api/raftlock/v1"
	"github.com/raftlock/raftlock/internal/mutant"
)

const (
	redialMin = 10 * time.Millisecond
	redialMax = time.Second
	// beatShare: nine beats a TTL; the agent vouches while the last one is
	// younger than TTL/3.
	beatShare = 9
)

// run keeps one stream to the agent until the session is over.
func (s *Session) run(ctx context.Context) {
	for ctx.Err() == nil {
		st, err := s.cfg.dial(ctx)
		if err == nil {
			err = useStream(ctx, &endingStream{Stream: st, session: s}, s.read, s.transmit)
		}
		if ctx.Err() != nil {
			return
		}
		pause := s.down(err)
		s.log.Debug("session stream broken", "error", err, "pause", pause)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
}

// down notes why there is no stream and says how long to wait before the next.
func (s *Session) down(err error) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.phase, s.out, s.named = phaseDown, nil, nil
	s.downErr = err
	pause := s.cfg.redialPause(s.ttl.low(), s.attempt)
	s.attempt++
	return pause
}

// redialPause says how long to wait before the next dial. An agent may be back
// with little of the lease left: no wait is longer than the pause between two
// beats.
func (c *config) redialPause(ttl time.Duration, attempt int) time.Duration {
	upper := max(redialMin, min(redialMax, ttl/beatShare))
	if attempt < 7 {
		upper = min(upper, redialMin<<attempt)
	}
	return redialMin + c.jitter(upper-redialMin)
}

// jitter draws from [0, upper].
func (c *config) jitter(upper time.Duration) time.Duration {
	var b [8]byte
	if _, err := io.ReadFull(c.rand, b[:]); err != nil {
		return upper
	}
	return time.Duration(binary.LittleEndian.Uint64(b[:]) % uint64(upper+1))
}

// endingStream ends a session that is bound to its stream before the stream is
// given up: once that is closed, somebody else may be granted its locks.
type endingStream struct {
	Stream
	session *Session
}

func (st *endingStream) Recv() (*raftlockv1.SessionResponse, error) {
	resp, err := st.Stream.Recv()
	if err != nil {
		st.session.unbound(err)
	}
	return resp, err
}

func (st *endingStream) Send(msg *request) error {
	err := st.Stream.Send(msg)
	if err != nil {
		st.session.unbound(err)
	}
	return err
}

func (st *endingStream) Close() error {
	st.session.unbound(errClosedHere)
	return st.Stream.Close()
}

var errClosedHere = errors.New("closed here")

// unbound ends the session if its stream was all that kept it.
func (s *Session) unbound(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.bound && !s.closing && !mutant.On("sdk-stream-bound") {
		s.finish(fmt.Errorf("its stream is over, and it was bound to that: %w", err))
	}
}

// useStream runs transmit here and read in a goroutine until the stream breaks
// or ctx ends. It closes st and returns after both have returned. transmit is
// told by the channel that the reader ended, and returns nil then.
func useStream(ctx context.Context, st Stream, read func(Stream) error,
	transmit func(context.Context, Stream, <-chan struct{}) error) error {
	var readErr error
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		readErr = read(st)
		// A blocked Send must see it too.
		_ = st.Close()
	}()
	unhook := context.AfterFunc(ctx, func() { _ = st.Close() })
	err := transmit(ctx, st, ended)
	unhook()
	_ = st.Close()
	<-ended
	if err == nil || readErr != nil {
		err = readErr
	}
	return err
}

// transmit sends what there is to send. nil means that the reader ended.
func (s *Session) transmit(ctx context.Context, st Stream, read <-chan struct{}) error {
	if err := s.send(st, s.greeting()); err != nil {
		return err
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		msg, pause := s.next()
		if msg != nil {
			if err := s.send(st, msg); err != nil {
				return err
			}
			continue
		}
		timer.Reset(pause)
		select {
		case <-s.wake:
		case <-timer.C:
		case <-read:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// greeting makes the first request of a stream. Open keeps its sequence until
// it is answered. Resume has a new one on each stream: the answer that an old
// one may still get speaks of an attachment that is gone, so the old sequence
// is abandoned, which is to say acknowledged.
func (s *Session) greeting() *request {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stream++
	s.phase, s.out, s.named = phaseAttaching, nil, nil
	s.reach = raftlockv1.Reason_REASON_UNSPECIFIED // a new stream's agent tells first thing
	if !s.resume {
		if s.greeter == 0 {
			s.seq++
			s.greeter = s.seq
		}
		return s.stamped(&request{Request: &raftlockv1.SessionRequest_Open{Open: &raftlockv1.Open{
			Session: s.id, Secret: s.secret, Seq: s.greeter, TtlNanos: uint64(s.cfg.ttl),
			LeaseOnExit: s.cfg.leaseOnExit}}})
	}
	s.acks.add(s.greeter)
	s.seq++
	s.greeter = s.seq
	return s.stamped(&request{Request: &raftlockv1.SessionRequest_Resume{Resume: &raftlockv1.Resume{
		Session: s.id, Secret: s.secret, Seq: s.greeter,
		TtlNanos: uint64(s.ttl.low()), DeadlineNanos: uint64(s.v)}}})
}

// next picks what to send now: a beat that is due, else the oldest parcel that
// still matters. With nil it says how long until the next beat.
func (s *Session) next() (*request, time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	due := s.lastBeat + s.ttl.low()/beatShare - s.cfg.clock()
	if due <= 0 {
		return s.stamped(&request{Request: &raftlockv1.SessionRequest_Beat{Beat: &raftlockv1.Beat{}}}), 0
	}
	for len(s.out) > 0 {
		p := s.out[0]
		s.out = s.out[1:]
		if p.call != nil {
			if s.calls[p.call.seq] != p.call {
				continue // cancelled, or answered by a reconcile
			}
			p.call.sent = true
		}
		return s.stamped(&request{Trace: p.msg.Trace, Request: p.msg.Request}), 0
	}
	return nil, due
}

// stamped adds what every request says. The clock is read by send.
func (s *Session) stamped(msg *request) *request {
	msg.AckMark, msg.AckAbove = s.acks.named()
	return msg
}

// send takes the clock's reading right before msg goes: a reading that waited
// in a queue would vouch for a process that stopped meanwhile.
func (s *Session) send(st Stream, msg *request) error {
	now := s.cfg.clock()
	switch r := msg.Request.(type) {
	case *raftlockv1.SessionRequest_Open:
		r.Open.ClockNanos = uint64(now)
	case *raftlockv1.SessionRequest_Resume:
		r.Resume.ClockNanos = uint64(now)
	case *raftlockv1.SessionRequest_Beat:
		r.Beat.ClockNanos = uint64(now)
	default:
		return st.Send(msg)
	}
	s.mu.Lock()
	s.lastBeat = now
	if msg.GetBeat() == nil {
		s.greeted = now
	}
	s.mu.Unlock()
	if err := st.Send(msg); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	return nil
}

// read takes answers until the stream breaks or an answer says that it is of
// no more use.
func (s *Session) read(st Stream) error {
	for {
		resp, err := st.Recv()
		if err != nil {
			return fmt.Errorf("receive: %w", err)
		}
		if err := s.take(resp); err != nil {
			return err
		}
	}
}

// watch marks holds as lost when their V passes, as well as a timer can, and
// logs losses.
func (s *Session) watch(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		pause, lost := s.overdue()
		for _, l := range lost {
			s.log.Warn("lock lost", "lock", l.name, "token", l.token, "error", l.err)
		}
		timer.Reset(pause)
		select {
		case <-s.look:
		case <-timer.C:
		case <-ctx.Done():
			return
		}
	}
}

// overdue sweeps, and says when to look again and what was lost since the last
// time. It looks at least every beat: a timer stands still while the host is
// suspended, the clock does not.
func (s *Session) overdue() (time.Duration, []*Lock) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.cfg.clock()
	s.sweep(now)
	pause := time.Hour
	for _, l := range s.locks {
		if l.state == lockHeld {
			pause = min(pause, l.deadline-now, s.ttl.low()/beatShare)
		}
	}
	lost := s.lostLog
	s.lostLog = nil
	return pause, lost
}
