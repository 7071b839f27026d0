package session

import (
	"crypto/sha256"
	"crypto/subtle"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	api "github.com/raftlock/raftlock/api/raftlock/v1"
	"github.com/raftlock/raftlock/fsm/command"
	"github.com/raftlock/raftlock/internal/mutant"
)

// process is one process of a session: the opener, or one that joined. The
// Host's mutex guards it.
type process struct {
	peer Peer
	// id names it in the log: unique in the session, whatever agent made it.
	id uint64
	// entered: the log has it under that id.
	entered  bool
	exited   bool
	lastBeat time.Duration // its newest clock reading
	// stream is the one it joined on; nil: none. told: its join was answered.
	stream *stream
	told   bool
	over   chan struct{} // closed when its join was refused
}

func (h *Host) newProcess(peer Peer) *process {
	// A walk over all numbers that begins where this start's random number
	// says: ids from other starts, which the log still has, are not met.
	const stride = 0x9e3779b97f4a7c15
	h.processes++
	return &process{peer: peer, id: h.cfg.Incarnation + h.processes*stride, over: make(chan struct{})}
}

// command is what goes into the log about it. One of which nothing is known is
// listed all the same: the last one out ends the session.
func (p *process) command() *command.Process {
	c := &command.Process{}
	if known := p.peer.Process(); known != nil {
		c = proto.CloneOf(known)
	}
	c.Id = p.id
	return c
}

// known reports that the state machine can tell it from any other process.
func (p *process) known() bool {
	c := p.peer.Process()
	return c.GetBootId() != "" && (c.GetPidfdInode() != 0 || c.GetPid() != 0 && c.GetStartTicks() != 0)
}

// bound reports that the kernel does not let this agent watch it, or tell it
// from others when it comes back: no resume could be known for its own.
func (p *process) bound() bool { return p.peer.Exited() == nil || !p.known() }

// beat takes in a clock reading of the process. One ahead of this clock was
// not made by it: it counts as now.
func (p *process) beat(reading uint64, now time.Duration) {
	p.lastBeat = max(p.lastBeat, min(time.Duration(min(reading, 1<<62)), now))
}

// watch waits for the process's exit, with or without a stream, for as long as
// the session is known here, and then lets go of it.
func (h *Host) watch(s *session, p *process) {
	h.waiting.Go(func() {
		defer p.peer.Release()
		select {
		case <-p.peer.Exited(): // never, of one that cannot be watched
			h.exit(s, p)
		case <-p.over:
		case <-s.gone:
		case <-h.gone:
		}
	})
}

// exit takes a process out that is gone. The last one ends the session, under
// whichever attachment a pending open or resume still brings.
func (h *Host) exit(s *session, p *process) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.exited(s, p)
}

// exited is exit for who has the mutex.
func (h *Host) exited(s *session, p *process) {
	if h.sessions[s.id] != s || p.exited || h.closed {
		return
	}
	if i := slices.Index(s.joined, p); i >= 0 {
		s.joined = slices.Delete(s.joined, i, i+1)
	} else if p != s.opener {
		return // its join was refused meanwhile
	}
	p.exited = true
	h.urgent = true // the next beat excepts what nobody speaks for any more
	defer h.cfg.Wake()
	last := s.opener.exited && len(s.joined) == 0
	switch {
	case last && s.leaseOnExit:
	case last && (s.whole || mutant.On("session-whole")) || mutant.On("session-joined-live"):
		if s.attachment != 0 || !mutant.On("session-exit-opening") {
			h.chore(s, choreKey{kind: choreEnd}, &command.Command{
				Kind: &command.Command_End{End: &command.End{Reason: command.EndReason_END_REASON_EXITED}},
			})
		}
	default:
		// Others live, or the log may list some that this start of the agent
		// never saw: it ends the session with the last that it lists.
		h.takeOut(s, p)
	}
}

// takeOut has the log strike a process off, after it surely has it: one that
// resumed is listed under an id of an older start.
func (h *Host) takeOut(s *session, p *process) {
	if mutant.On("session-leave") {
		return
	}
	if !p.entered {
		h.enter(s, p)
	}
	h.chore(s, choreKey{kind: choreLeave, seq: p.id}, &command.Command{
		Kind: &command.Command_Leave{Leave: &command.Leave{Process: p.id}},
	})
}

// enter has the log list a process.
func (h *Host) enter(s *session, p *process) {
	h.chore(s, choreKey{kind: choreJoin, seq: p.id}, &command.Command{
		Kind: &command.Command_Join{Join: &command.Join{SecretHash: s.secretHash[:], Process: p.command()}},
	})
}

// join adds the process at the far end of a stream to a session known here.
// It is answered when the log has it.
func (h *Host) join(q *api.Join, str *stream, peer Peer, now time.Duration) (*seat, error) {
	hash := hashOf(q.Secret)
	if len(q.Session) != 16 || len(q.Secret) < 16 {
		return nil, str.refuse(0, api.Reason_REASON_INVALID, "a join names a session by 16 bytes and its secret of 16 or more")
	}
	s := h.sessions[ID(q.Session)]
	switch {
	case s == nil:
		return nil, str.refuse(0, api.Reason_REASON_NOT_FOUND, "no such session at this agent: its opener opens or resumes it first")
	case subtle.ConstantTimeCompare(s.secretHash[:], hash[:]) != 1:
		return nil, str.refuse(0, api.Reason_REASON_DENIED, "the session has another secret")
	case peer.Exited() == nil:
		return nil, str.refuse(0, api.Reason_REASON_DENIED, "this process cannot join: its exit cannot be watched here (see Attached.stream_bound)")
	}
	p := s.processOf(peer)
	if p == nil {
		if _, ending := s.chores[choreKey{kind: choreEnd}]; ending {
			return nil, str.refuse(0, api.Reason_REASON_SESSION_ENDED, "the session is ending: its processes are gone or it was closed")
		}
		if len(s.joined)+1 >= command.ProcessesMax || len(s.chores) >= entriesMax {
			return nil, str.refuse(0, api.Reason_REASON_LIMIT, "the session has as many processes as it may")
		}
		p = h.newProcess(peer)
		s.joined = append(s.joined, p)
		h.watch(s, p)
		h.enter(s, p)
	} else {
		peer.Release()
		if p.stream != nil {
			p.stream.supersede()
		}
	}
	p.stream, p.told = str, false
	p.beat(q.ClockNanos, now)
	h.greet(str)
	h.tellJoined(s, p)
	return &seat{s: s, p: p, joined: true}, nil
}

// processOf finds the living process of s that is surely the peer.
func (s *session) processOf(peer Peer) *process {
	if !s.opener.exited && s.opener.peer.Same(peer) {
		return s.opener
	}
	for _, p := range s.joined {
		if p.peer.Same(peer) {
			return p
		}
	}
	return nil
}

// tellJoined answers a join once the log has the process. From then on it
// counts: before, the opener's death ends the session.
func (h *Host) tellJoined(s *session, p *process) {
	if p.stream == nil || p.told || s.attachment == 0 || !p.entered && p != s.opener && !mutant.On("session-join-applied") {
		return
	}
	p.told = true
	p.stream.send(&api.SessionResponse{Response: &api.SessionResponse_Attached{Attached: &api.Attached{
		Reason: api.Reason_REASON_OK, DeadlineNanos: uint64(s.v), TtlNanos: uint64(s.ttl), ClockNanos: uint64(h.cfg.Clock()),
	}}})
}

// joinDone takes the log's answer to a join.
func (h *Host) joinDone(s *session, id uint64, r *command.Result) {
	if s.opener.id == id {
		s.opener.entered = r.Code == command.Code_CODE_OK
		return
	}
	for i, p := range s.joined {
		if p.id != id {
			continue
		}
		if r.Code == command.Code_CODE_OK {
			p.entered = true
			h.tellJoined(s, p)
			return
		}
		s.joined = slices.Delete(s.joined, i, i+1)
		close(p.over)
		if p.stream != nil {
			_ = p.stream.refuse(0, reason(r.Code), r.Detail)
			p.stream.finish()
			p.stream = nil
		}
		return
	}
}

// beaten takes a request of a joined process's stream. False: it is over.
func (h *Host) beaten(s *session, p *process, str *stream, r *api.SessionRequest) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	b := r.GetBeat()
	if b == nil || p.stream != str || h.sessions[s.id] != s {
		return false
	}
	p.beat(b.ClockNanos, h.cfg.Clock())
	return true
}

// reckon makes ttl what V is reckoned with. Those that joined are told: they
// beat by it.
func (h *Host) reckon(s *session, ttl time.Duration) {
	if s.ttl == ttl {
		return
	}
	s.ttl = ttl
	for _, p := range s.processes() {
		if p.told {
			p.told = false
			h.tellJoined(s, p)
		}
	}
}

// dismiss ends the streams of those that joined s. Where only this agent's part
// in it is over they hear no more than that: they join anew where it is now.
func (s *session) dismiss(why api.Reason) {
	for _, p := range s.processes() {
		if p.stream == nil {
			continue
		}
		switch {
		case why == api.Reason_REASON_SUPERSEDED:
		case p.told:
			p.stream.send(ended(why))
		default:
			_ = p.stream.refuse(0, final(why), "the session ended before the join was applied")
		}
		p.stream.finish()
		p.stream = nil
	}
}

// final is why as a join is refused with it: an application's own end is no
// success of another's join.
func final(why api.Reason) api.Reason {
	if why == api.Reason_REASON_OK {
		return api.Reason_REASON_SESSION_ENDED
	}
	return why
}

// processes are all that this agent knows of s: the opener first.
func (s *session) processes() []*process { return append([]*process{s.opener}, s.joined...) }

// Orphan reports that every process of a session that is known here is gone,
// while the log may list others that joined through an older start of this
// agent. known: the session is attached here, or about to be.
func (h *Host) Orphan(id ID) (orphan, known bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.sessions[id]
	return s != nil && s.orphan(), s != nil
}

// EndOrphan ends such a session if it is attached under that number: nobody
// joins it any more, and the end is repeated until it is applied. known as of
// Orphan.
func (h *Host) EndOrphan(id ID, attachment uint64) (known bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := h.sessions[id]
	if s == nil {
		return false
	}
	if s.orphan() && s.attachment == attachment && !h.closed {
		h.chore(s, choreKey{kind: choreEnd}, &command.Command{
			Kind: &command.Command_End{End: &command.End{Reason: command.EndReason_END_REASON_EXITED}},
		})
	}
	return true
}

// Orphans counts such sessions.
func (h *Host) Orphans() (orphans int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range h.sessions {
		if s.orphan() {
			orphans++
		}
	}
	return orphans
}

func (s *session) orphan() bool {
	return s.opener.exited && len(s.joined) == 0 && !s.whole && !s.leaseOnExit && s.attaching == nil
}

// streams are all streams of s.
func (s *session) streams() (out []*stream) {
	if s.stream != nil {
		out = append(out, s.stream)
	}
	for _, p := range s.processes() {
		if p.stream != nil {
			out = append(out, p.stream)
		}
	}
	return out
}

func hashOf(secret []byte) [32]byte {
	return sha256.Sum256(append([]byte("raftlock session secret\x00"), secret...))
}

func ended(why api.Reason) *api.SessionResponse {
	return &api.SessionResponse{Response: &api.SessionResponse_Ended{Ended: &api.Ended{Reason: why}}}
}
