package session

import (
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	api "github.com/raftlock/raftlock/api/raftlock/v1"
	"github.com/raftlock/raftlock/fsm/command"
	"github.com/raftlock/raftlock/internal/mutant"
	"github.com/raftlock/raftlock/telemetry/tracing"
)

// session is what this agent believes of one session. The Host's mutex guards
// it.
type session struct {
	id         ID
	secretHash [32]byte
	// opener is the process that opened, and alone may resume, gone or not;
	// joined are the living ones that joined, in that order. whole: the log
	// lists no process but these and those that this agent saw go.
	opener *process
	joined []*process
	whole  bool

	// attachment is 0 until the first open or resume is answered.
	attachment uint64
	attaching  *command.Command // an open or resume not yet answered
	// The newest open or resume that was sent, and when first: repeated, it is
	// answered with what it did once, which is when the leader heard of it.
	attachSeq   uint64
	attachFirst time.Duration
	// listed: all that the application believes is known here. Where it is not,
	// an older start of this agent had the session, and its holds are unknown
	// until the application's list comes.
	listed bool
	retry  bool // sync again at the next tick

	// inForce is the TTL that the cluster last said it has. ttl is what V is
	// reckoned with: never above that, nor above any that was asked for and not
	// answered. grow is what it becomes for beats numbered above growAfter.
	inForce   time.Duration
	ttl       time.Duration
	grow      time.Duration
	growAfter uint64
	v         time.Duration
	// claimed is the latest V that an older start of this agent may have told
	// the application: no hold that it lists is given back before.
	claimed time.Duration
	// attachV is V by the resume's own sending. It counts once a reconcile has
	// told which holds are revoked: their V stands still since the mark, which
	// may have been told to an agent that is no more.
	attachV time.Duration

	// confirmed: on this link; beats numbered above confirmedAfter speak for it.
	confirmed      bool
	confirmedAfter uint64

	leaseOnExit bool
	// unbound: the stream that it was bound to is over.
	unbound bool

	entries map[uint64]*entry // by sequence
	chores  map[choreKey]*command.Command
	next    uint64 // the lowest sequence this agent has not seen used
	// The application's acknowledgement, and the mark that the cluster heard.
	ackMark, ackTold uint64
	ackAbove         []uint64
	ackAboveTold     int
	// reconcile: the application's list awaits the cluster's answer; lists
	// counts them.
	reconcile map[uint64]struct{}
	lists     int

	stream *stream
	gone   chan struct{} // closed when the Host forgets the session
}

// entry is one sequence that is not finished: an unanswered request, a wait or
// a hold.
type entry struct {
	seq      uint64
	cmd      *command.Command // nil: known only from the application's list
	sent     int              // how often, under any attachment, on any link
	way      *uplink          // where it is on its way; nil: answered, or not sent
	listed   bool             // a hold that an older start of this agent reported
	acquire  bool
	lock     string
	held     bool
	token    uint64
	position uint64
	answered bool // the application has an Answer
	reported bool // and was told that it holds
	revoked  bool
	frozen   time.Duration // V of a revoked hold
	lost     bool
	measured measured
	spans    *spans // nil: nobody records it, or it is reported
}

// choreKey names something this agent repeats until it is applied.
type choreKey struct {
	kind  choreKind
	seq   uint64
	token uint64
}

type choreKind uint8

const (
	choreCancel choreKind = iota + 1
	choreRelease
	choreJoin
	choreLeave
	choreEnd
)

func newSession(id ID, opener *process) *session {
	return &session{
		id:      id,
		opener:  opener,
		entries: make(map[uint64]*entry),
		chores:  make(map[choreKey]*command.Command),
		next:    1,
		gone:    make(chan struct{}),
	}
}

// vouched reports whether the session's process is alive and scheduled, as far
// as this host can tell: the opener, and after its death any that joined.
func (s *session) vouched(now time.Duration) bool {
	if mutant.On("session-vouch") {
		return true
	}
	young := func(p *process) bool { return now-p.lastBeat < s.ttl/vouchFraction }
	if !s.opener.exited {
		return !s.unbound && young(s.opener) || mutant.On("session-joined-vouch") && slices.ContainsFunc(s.joined, young)
	}
	return slices.ContainsFunc(s.joined, func(p *process) bool { return p.entered && young(p) })
}

// command completes a command with the session's common fields. It makes a
// copy: what was sent may still be read by the link.
func (s *session) command(c *command.Command) *command.Command {
	c = proto.CloneOf(c)
	c.Session = s.id[:]
	if c.GetOpen() == nil && c.GetResume() == nil {
		c.Attachment = s.attachment
	}
	if !mutant.On("session-ack") {
		c.AckMark, c.AckAbove = s.ackMark, s.ackAbove
	}
	s.ackTold, s.ackAboveTold = s.ackMark, len(s.ackAbove)
	return c
}

// sync says on the current link all that this agent believes of s: an open or
// resume again if one is not answered, else a reconcile, then its chores.
func (h *Host) sync(s *session) {
	if h.up == nil {
		s.retry = true
		return
	}
	s.retry = false
	if a := s.attaching; a != nil {
		s.began(a.Seq, h.cfg.Clock())
		c := s.command(a)
		h.propose(c, pending{session: s.id, what: proposeAttach, seq: c.Seq})
		return
	}
	if s.attachment == 0 {
		return
	}
	if !s.listed && !mutant.On("session-unlisted") {
		h.sendChores(s) // a list made of nothing would give its holds away
		return
	}
	r := &command.Reconcile{Next: s.next}
	for _, seq := range s.sequences() {
		if e := s.entries[seq]; !e.lost {
			r.Named = append(r.Named, &command.Belief{Seq: seq, Token: e.token})
		}
	}
	if mutant.On("session-reconcile-next") {
		r.Next += 64
	}
	p := pending{what: proposeReconcile}
	if s.reconcile != nil {
		p.list = s.lists
	}
	h.proposeFor(s, &command.Command{Kind: &command.Command_Reconcile{Reconcile: r}}, p)
	h.sendChores(s)
}

// began notes when an open or resume was first sent.
func (s *session) began(seq uint64, now time.Duration) {
	if s.attachSeq != seq || mutant.On("session-first-sending") {
		s.attachSeq, s.attachFirst = seq, now
	}
}

// proposeFor sends one of s's commands under its current attachment.
func (h *Host) proposeFor(s *session, c *command.Command, p pending) {
	c = s.command(c)
	p.session, p.attachment = s.id, s.attachment
	h.propose(c, p)
}

// request sends an entry's command, if it has one and the session is attached.
func (h *Host) request(s *session, e *entry) {
	if e.cmd == nil || h.up == nil || s.attaching != nil || s.attachment == 0 {
		return
	}
	e.sent++
	e.way = h.up
	h.proposeFor(s, e.cmd, pending{what: proposeRequest, seq: e.seq, trace: e.spans.sends(h.up)})
}

// chore adds something to repeat until it is applied, and sends it.
func (h *Host) chore(s *session, k choreKey, c *command.Command) {
	if _, have := s.chores[k]; have {
		return
	}
	s.chores[k] = c
	if h.up != nil && s.attaching == nil && s.attachment != 0 {
		h.proposeFor(s, c, pending{what: proposeChore, chore: k})
	}
}

func (h *Host) sendChores(s *session) {
	for _, k := range s.choreKeys() {
		h.proposeFor(s, s.chores[k], pending{what: proposeChore, chore: k})
	}
}

// acknowledge tells the cluster what the application has received, when that
// has grown by much and no other command carried it.
func (h *Host) acknowledge(s *session) {
	const much = 128
	grown := s.ackMark - s.ackTold + uint64(max(0, len(s.ackAbove)-s.ackAboveTold))
	if grown < much || h.up == nil || s.attaching != nil || s.attachment == 0 {
		return
	}
	h.proposeFor(s, &command.Command{Kind: &command.Command_Acknowledge{Acknowledge: &command.Acknowledge{}}},
		pending{what: proposeAck})
}

// drop forgets s and tells its application why. Whatever it held is lost to
// the application: the reason is final.
func (h *Host) drop(s *session, why api.Reason) {
	if h.sessions[s.id] != s {
		return
	}
	delete(h.sessions, s.id)
	h.uncount(s.opener.peer.Identity())
	close(s.gone)
	h.measureDropped(s, why)
	h.sayDropped(s, why)
	s.endSpans(tracing.OutcomeGone, word(final(why)))
	if s.stream != nil {
		s.stream.send(ended(why))
		s.stream.finish()
		s.stream = nil
	}
	s.dismiss(why)
}

// detach breaks the session's streams without a word: it goes on.
func (s *session) detach() {
	for _, str := range s.streams() {
		str.abort()
	}
	s.endSpans(tracing.OutcomeUnknown, "")
	s.stream = nil
	for _, p := range s.processes() {
		p.stream = nil
	}
}
