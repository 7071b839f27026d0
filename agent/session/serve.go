package session

import (
	"context"
	"crypto/subtle"
	"errors"
	"slices"
	"time"

	api "github.com/raftlock/raftlock/api/raftlock/v1"
	"github.com/raftlock/raftlock/fsm/command"
	"github.com/raftlock/raftlock/internal/mutant"
)

// Serve runs one application's stream until it breaks, ctx ends or the session
// is over. The stream's end ends nothing - the session's lease runs on, and the
// process's exit is watched for as long as the session is known here - unless
// the process cannot be watched: then the end of the stream that opened is its
// exit. The peer is the Host's from here on; see Peer.Release.
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

	late := time.AfterFunc(firstTimeout, str.abort)
	first, err := st.Recv()
	late.Stop()
	if err != nil {
		peer.Release()
		return err
	}
	at, err := h.attach(first, str, peer)
	if err != nil {
		peer.Release()
		return err
	}
	defer h.leave(at, str)
	for {
		r, err := st.Recv()
		if err != nil {
			return err
		}
		take := h.handle
		if at.joined {
			take = h.beaten
		}
		if !take(at.s, at.p, str, r) {
			return nil
		}
	}
}

// seat is what a stream's first request made it: one process's of a session,
// the opener's to ask on or a joined one's to beat on.
type seat struct {
	s      *session
	p      *process
	joined bool
}

// leave takes the stream from its session, unless a newer one took its place.
func (h *Host) leave(at *seat, str *stream) {
	h.mu.Lock()
	was := at.s.stream == str
	if was {
		at.s.stream = nil
	}
	if at.p.stream == str {
		at.p.stream = nil
	}
	h.mu.Unlock()
	if was && at.p.bound() && !mutant.On("session-stream-bound") {
		h.unbind(at.s)
	}
}

// unbind takes the end of the stream for the exit of a process that opened a
// session bound to it, once nothing is held any more by V: the process may live
// on, stopped, and not know yet that its agent gave the stream up.
func (h *Host) unbind(s *session) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed || h.sessions[s.id] != s {
		return
	}
	s.unbound, h.urgent = true, true
	h.exitUnbound(s, h.cfg.Clock())
	h.cfg.Wake()
}

// exitUnbound looks whether an unbound session may end now.
func (h *Host) exitUnbound(s *session, now time.Duration) {
	if !s.unbound {
		return
	}
	if _, held := h.look(s, now); !held || mutant.On("session-unbound-v") {
		h.exited(s, s.opener)
	}
}

// attach makes or finds the session that a stream's first request names. After
// an error the peer is still the caller's.
func (h *Host) attach(r *api.SessionRequest, str *stream, peer Peer) (*seat, error) {
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
	case *api.SessionRequest_Join:
		return h.join(q.Join, str, peer, now)
	}
	return nil, ErrFirst
}

func (h *Host) open(q *api.Open, r *api.SessionRequest, str *stream, peer Peer, now time.Duration) (*seat, error) {
	if len(q.Session) == len(ID{}) && h.sessions[ID(q.Session)] == nil {
		if later, ok := h.mayAsk(peer.Identity()); !ok {
			return nil, str.refuse(q.Seq, api.Reason_REASON_RATE_LIMITED, TooMuch("requests of this user", later))
		}
	}
	s, err := h.admit(q.Session, q.Secret, q.Seq, str, peer, 1)
	if err != nil {
		return nil, err
	}
	s.use(q.Seq)
	s.acknowledged(r)
	s.opener.beat(q.ClockNanos, now)
	if s.attachment == 0 {
		s.ttl, s.leaseOnExit, s.listed = bounded(q.TtlNanos), q.LeaseOnExit, true
		s.whole, s.opener.entered = true, true
	}
	s.attaching = &command.Command{Seq: q.Seq, Kind: &command.Command_Open{Open: &command.Open{
		SecretHash: s.secretHash[:], Agent: h.agent(), TtlNanos: q.TtlNanos, Process: s.opener.command(),
		LeaseOnExit: q.LeaseOnExit, Identity: h.Whose(s.opener.peer.Identity()),
	}}}
	h.sync(s)
	return &seat{s: s, p: s.opener}, nil
}

func (h *Host) resume(q *api.Resume, r *api.SessionRequest, str *stream, peer Peer, now time.Duration) (*seat, error) {
	if peer.Exited() == nil {
		return nil, str.refuse(q.Seq, api.Reason_REASON_DENIED, "this process cannot resume: its exit cannot be watched here (see Attached.stream_bound); open a new session")
	}
	room := 2 // for what an older start of this agent let open, whatever was opened since
	if mutant.On("session-resume-room") {
		room = 1
	}
	s, err := h.admit(q.Session, q.Secret, q.Seq, str, peer, room)
	if err != nil {
		return nil, err
	}
	s.use(q.Seq)
	s.acknowledged(r)
	s.opener.beat(q.ClockNanos, now)
	// It may have been attached elsewhere meanwhile, and joined there.
	s.whole, s.opener.entered = false, false
	if s.ttl == 0 { // not known here: an older start of this agent had it
		s.ttl = min(bounded(q.TtlNanos), idleTTL)
		s.claimed = min(time.Duration(min(q.DeadlineNanos, 1<<62)), now+ttlMax)
		s.v = min(s.claimed, now+s.ttl)
	}
	// Until the resume is answered no beat speaks for it: the leader may have
	// moved it to the new attachment already.
	s.confirmed = false
	s.attaching = &command.Command{Seq: q.Seq, Kind: &command.Command_Resume{Resume: &command.Resume{
		SecretHash: s.secretHash[:], Agent: h.agent(), Process: s.opener.command(),
	}}}
	h.sync(s)
	return &seat{s: s, p: s.opener}, nil
}

// admit checks id and secret, refuses another process, and gives the session
// the new stream. A known session keeps what is believed of it. An unknown one is
// refused past room times the bounds.
func (h *Host) admit(id, secret []byte, seq uint64, str *stream, peer Peer, room int) (*session, error) {
	if len(id) != 16 || len(secret) < 16 || seq == 0 {
		return nil, str.refuse(seq, api.Reason_REASON_INVALID, "a session needs 16 random bytes as id, 16 or more as secret, and a sequence from 1")
	}
	hash := hashOf(secret)
	s := h.sessions[ID(id)]
	if s == nil {
		if len(h.sessions) >= room*sessionsMax {
			return nil, str.refuse(seq, api.Reason_REASON_LIMIT, "this agent has as many sessions as it keeps")
		}
		if h.identities[peer.Identity()] >= room*sessionsOfOneMax {
			return nil, str.refuse(seq, api.Reason_REASON_LIMIT, "this agent has as many sessions of this user as it keeps: close some")
		}
		s = newSession(ID(id), h.newProcess(peer))
		s.secretHash = hash
		h.sessions[s.id] = s
		h.identities[peer.Identity()]++
		h.watch(s, s.opener)
	} else {
		switch {
		case subtle.ConstantTimeCompare(s.secretHash[:], hash[:]) != 1:
			return nil, str.refuse(seq, api.Reason_REASON_DENIED, "the session has another secret")
		case !s.opener.peer.Same(peer) && s.attachment == 0 && !s.opener.exited:
			// Nobody has proven yet that it opened: this one may be the one.
			return nil, str.refuse(seq, api.Reason_REASON_RATE_LIMITED, "another process's open or resume of this session awaits its answer; applied: no; ask again")
		case s.opener.exited || !s.opener.peer.Same(peer):
			return nil, str.refuse(seq, api.Reason_REASON_DENIED, "only the process that opened a session can resume it")
		case s.opener.bound():
			return nil, str.refuse(seq, api.Reason_REASON_DENIED, "the session lives and ends with the stream that opened it; open a new one")
		}
		peer.Release() // the one from before is watched already
		if s.stream != nil {
			s.stream.supersede()
		}
	}
	s.stream = str
	h.greet(str)
	return s, nil
}

// supersede ends a stream whose process made another one.
func (s *stream) supersede() {
	s.send(ended(api.Reason_REASON_SUPERSEDED))
	s.finish()
}

// refuse answers an open or resume that never reached the cluster.
func (s *stream) refuse(seq uint64, why api.Reason, detail string) error {
	s.send(&api.SessionResponse{Response: &api.SessionResponse_Attached{Attached: &api.Attached{Seq: seq, Reason: why, Detail: detail}}})
	return errors.New(detail)
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
		// Past the bound they count as not acknowledged.
		above := r.AckAbove[:min(len(r.AckAbove), command.SinglesMax)]
		s.ackMark, s.ackAbove = r.AckMark, slices.Clone(above)
	}
}

// handle takes one request of an attached stream. False: the stream is over.
func (h *Host) handle(s *session, p *process, str *stream, r *api.SessionRequest) bool {
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
		p.beat(q.Beat.ClockNanos, now)
	case *api.SessionRequest_Acquire:
		h.acquire(s, q.Acquire, r.Trace)
	case *api.SessionRequest_Cancel:
		h.cancel(s, q.Cancel.Target)
	case *api.SessionRequest_Release:
		h.release(s, q.Release, r.Trace)
	case *api.SessionRequest_SetTtl:
		h.setTTL(s, q.SetTtl, r.Trace, now)
	case *api.SessionRequest_Reconcile:
		if !h.reconcile(s, q.Reconcile) {
			return false
		}
	case *api.SessionRequest_End:
		h.chore(s, choreKey{kind: choreEnd}, &command.Command{
			Kind: &command.Command_End{End: &command.End{Reason: command.EndReason_END_REASON_CLOSED}},
		})
	}
	return true
}
