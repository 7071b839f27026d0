package session

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"slices"
	"time"

	api "github.com/raftlock/raftlock/api/raftlock/v1"
	"github.com/raftlock/raftlock/fsm/command"
	"github.com/raftlock/raftlock/internal/mutant"
)

// Serve runs one application's stream until it breaks, ctx ends or the session
// is over. The stream's end ends nothing: the session's lease runs on, and the
// process's exit is watched for as long as the session is known here.
func (h *Host) Serve(ctx context.Context, st Stream, peer Peer) error {
	str := newStream(st)
	written := make(chan struct{})
	go func() { defer close(written); str.write() }()
	stop := context.AfterFunc(ctx, str.abort)
	defer func() {
		str.finish()
		<-written
		stop()
	}()

	first, err := st.Recv()
	if err != nil {
		return err
	}
	s, err := h.attach(first, str, peer)
	if err != nil {
		return err
	}
	defer h.leave(s, str)
	for {
		r, err := st.Recv()
		if err != nil {
			return err
		}
		if !h.handle(s, str, r) {
			return nil
		}
	}
}

// leave takes the stream from its session, unless a newer one took its place.
func (h *Host) leave(s *session, str *stream) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if s.stream == str {
		s.stream = nil
	}
}

// attach makes or finds the session that a stream's first request names.
func (h *Host) attach(r *api.SessionRequest, str *stream, peer Peer) (*session, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, ErrClosed
	}
	now := h.cfg.Clock()
	switch q := r.Request.(type) {
	case *api.SessionRequest_Open:
		return h.open(q.Open, r, str, peer, now)
	case *api.SessionRequest_Resume:
		return h.resume(q.Resume, r, str, peer, now)
	}
	return nil, ErrFirst
}

func (h *Host) open(q *api.Open, r *api.SessionRequest, str *stream, peer Peer, now time.Duration) (*session, error) {
	s, hash, err := h.admit(q.Session, q.Secret, q.Seq, str, peer)
	if err != nil {
		return nil, err
	}
	s.use(q.Seq)
	s.acknowledged(r)
	s.beat(q.ClockNanos, now)
	if s.attachment == 0 {
		s.ttl, s.leaseOnExit, s.listed = bounded(q.TtlNanos), q.LeaseOnExit, true
	}
	s.attaching = &command.Command{Seq: q.Seq, Kind: &command.Command_Open{Open: &command.Open{
		SecretHash: hash[:], Agent: h.agent(), TtlNanos: q.TtlNanos, Process: peer.Process(),
		LeaseOnExit: q.LeaseOnExit, Identity: peer.Identity(),
	}}}
	h.sync(s)
	return s, nil
}

func (h *Host) resume(q *api.Resume, r *api.SessionRequest, str *stream, peer Peer, now time.Duration) (*session, error) {
	s, hash, err := h.admit(q.Session, q.Secret, q.Seq, str, peer)
	if err != nil {
		return nil, err
	}
	s.use(q.Seq)
	s.acknowledged(r)
	s.beat(q.ClockNanos, now)
	if s.ttl == 0 { // not known here: an older start of this agent had it
		s.ttl = min(bounded(q.TtlNanos), idleTTL)
		s.v = min(time.Duration(min(q.DeadlineNanos, 1<<62)), now+s.ttl)
	}
	// Until the resume is answered no beat speaks for it: the leader may have
	// moved it to the new attachment already.
	s.confirmed = false
	s.attaching = &command.Command{Seq: q.Seq, Kind: &command.Command_Resume{Resume: &command.Resume{
		SecretHash: hash[:], Agent: h.agent(),
	}}}
	h.sync(s)
	return s, nil
}

// admit checks id and secret, refuses another process, and gives the session
// the new stream. A known session keeps what is believed of it.
func (h *Host) admit(id, secret []byte, seq uint64, str *stream, peer Peer) (*session, [32]byte, error) {
	hash := sha256.Sum256(append([]byte("raftlock session secret\x00"), secret...))
	if len(id) != 16 || len(secret) < 16 || seq == 0 {
		return nil, hash, str.refuse(seq, api.Reason_REASON_INVALID, "a session needs 16 random bytes as id, 16 or more as secret, and a sequence from 1")
	}
	s := h.sessions[ID(id)]
	if s == nil {
		if len(h.sessions) >= sessionsMax {
			return nil, hash, str.refuse(seq, api.Reason_REASON_LIMIT, "this agent has as many sessions as it keeps")
		}
		s = newSession(ID(id))
		s.secretHash, s.peer = hash, peer
		h.sessions[s.id] = s
		h.watch(s)
	} else {
		if subtle.ConstantTimeCompare(s.secretHash[:], hash[:]) != 1 {
			return nil, hash, str.refuse(seq, api.Reason_REASON_DENIED, "the session has another secret")
		}
		if !s.peer.Same(peer) {
			return nil, hash, str.refuse(seq, api.Reason_REASON_DENIED, "only the process that opened a session can resume it")
		}
		if s.stream != nil {
			s.stream.send(&api.SessionResponse{Response: &api.SessionResponse_Ended{Ended: &api.Ended{Reason: api.Reason_REASON_SUPERSEDED}}})
			s.stream.finish()
		}
	}
	s.stream = str
	return s, hash, nil
}

// refuse answers an open or resume that never reached the cluster.
func (s *stream) refuse(seq uint64, why api.Reason, detail string) error {
	s.send(&api.SessionResponse{Response: &api.SessionResponse_Attached{Attached: &api.Attached{Seq: seq, Reason: why, Detail: detail}}})
	return errors.New(detail)
}

// watch ends the session when its process exits, with or without a stream.
func (h *Host) watch(s *session) {
	exited := s.peer.Exited()
	if exited == nil {
		return
	}
	h.waiting.Go(func() {
		select {
		case <-exited:
			h.exit(s)
		case <-s.gone:
		case <-h.gone:
		}
	})
}

// exit ends the session of a process that is gone, under whichever attachment
// a pending open or resume still brings.
func (h *Host) exit(s *session) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.sessions[s.id] != s {
		return
	}
	s.exited = true
	h.urgent = true // the next beat excepts it
	if !s.leaseOnExit && (s.attachment != 0 || !mutant.On("session-exit-opening")) {
		h.chore(s, choreKey{kind: choreEnd}, &command.Command{
			Kind: &command.Command_End{End: &command.End{Reason: command.EndReason_END_REASON_EXITED}},
		})
	}
	h.cfg.Wake()
}

func (h *Host) agent() *command.Agent {
	return &command.Agent{Name: h.cfg.Agent, Incarnation: h.cfg.Incarnation}
}

// bounded is a TTL that an application named, as far as deadlines may be
// reckoned with it. Whether it may have it is the state machine's to say.
func bounded(nanos uint64) time.Duration {
	return min(max(time.Duration(min(nanos, uint64(ttlMax))), ttlMin), ttlMax)
}

// use notes that a sequence was seen.
func (s *session) use(seq uint64) { s.next = max(s.next, seq+1) }

// acknowledged takes in what the application received.
func (s *session) acknowledged(r *api.SessionRequest) {
	if r.AckMark >= s.ackMark {
		s.ackMark, s.ackAbove = r.AckMark, slices.Clone(r.AckAbove)
	}
}

// beat takes in a clock reading of the application. One ahead of this clock
// was not made by it: it counts as now.
func (s *session) beat(reading uint64, now time.Duration) {
	s.lastBeat = max(s.lastBeat, min(time.Duration(min(reading, 1<<62)), now))
}

// handle takes one request of an attached stream. False: the stream is over.
func (h *Host) handle(s *session, str *stream, r *api.SessionRequest) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if s.stream != str || h.sessions[s.id] != s {
		return false // superseded or ended: dropped unread
	}
	now := h.cfg.Clock()
	h.look(s, now)
	s.acknowledged(r)
	switch q := r.Request.(type) {
	case *api.SessionRequest_Beat:
		s.beat(q.Beat.ClockNanos, now)
	case *api.SessionRequest_Acquire:
		h.acquire(s, q.Acquire)
	case *api.SessionRequest_Cancel:
		h.cancel(s, q.Cancel.Target)
	case *api.SessionRequest_Release:
		h.release(s, q.Release)
	case *api.SessionRequest_SetTtl:
		h.setTTL(s, q.SetTtl, now)
	case *api.SessionRequest_Reconcile:
		h.reconcile(s, q.Reconcile)
	case *api.SessionRequest_End:
		h.chore(s, choreKey{kind: choreEnd}, &command.Command{
			Kind: &command.Command_End{End: &command.End{Reason: command.EndReason_END_REASON_CLOSED}},
		})
	}
	return true
}
