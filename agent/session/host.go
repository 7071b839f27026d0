package session

import (
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/trace"

	api "github.com/raftlock/raftlock/api/raftlock/v1"
	"github.com/raftlock/raftlock/fsm/command"
	"github.com/raftlock/raftlock/link"
	"github.com/raftlock/raftlock/link/linkpb"
)

// ID names a session.
type ID = [16]byte

// How often, as fractions of the shortest TTL that is attached here, and what
// holds while no session is.
const (
	beatFraction  = 9
	staleFraction = 3
	vouchFraction = 3
	idleTTL       = 10 * time.Second
	// A grant is reported only with this much of the TTL left before V.
	aheadFraction = 6
	beatsKept     = 64

	// Bounds of what an application may ask for; the state machine has its own.
	ttlMin = time.Duration(command.TTLNanosMin)
	ttlMax = time.Duration(command.TTLNanosMax)
	// How many sessions may be opened here, and one identity's part of them. Twice
	// as many may be resumed: after a restart whoever opens new ones must not keep
	// out those of before, whose holds would be lost.
	sessionsMax      = 1 << 16
	sessionsOfOneMax = sessionsMax / 4
	entriesMax       = command.NamedMax // one reconcile names them all
)

// Uplink takes frames for the leader. Send never blocks. What is sent on a link
// that is over is lost; LinkDown follows.
type Uplink interface {
	Send(*link.Up)
}

// Config is what a Host is made of. All fields are required unless it says
// otherwise.
type Config struct {
	// Agent is this agent's name; Incarnation the random number of this start.
	Agent       string
	Incarnation uint64
	// Clock reads the host's CLOCK_BOOTTIME.
	Clock func() time.Duration
	Log   *slog.Logger
	// Tracer makes the spans of requests; nil: none are made here, and those of
	// who asks are handed on.
	Tracer trace.Tracer
	// Metrics takes what is measured; nil: nothing is.
	Metrics Metrics
	// Wake asks the caller of Tick to call it soon. It must not block or call
	// back.
	Wake func()
	// Admit says whether an identity may open a session or acquire a lock now,
	// and if not when to come back. It must not block or call back. Nil: always.
	Admit func(identity string) (later time.Duration, ok bool)
}

// Host is the holder's side of every session attached to one agent.
type Host struct {
	cfg Config

	mu       sync.Mutex // guards all below; taken before a stream's queue and the uplink's
	sessions map[ID]*session
	// identities counts the sessions of each.
	identities map[string]int
	up         *uplink
	beatNo     uint64
	beats      []beat        // sent and not yet answered, oldest first
	beatSent   time.Duration // when the last one was sent, on whatever link
	heard      time.Duration // when the last answer came on the current link; 0: none
	urgent     bool          // the next Tick beats whatever the time
	calls      map[*call]struct{}
	askings    map[waitKey]*asking // names of plain waits that nobody was told of
	askingNo   uint64
	cancelling int // how many of calls are cancels of plain waits that were given up
	plain      plainHolds
	closed     bool
	reach      api.Reason
	// processes counts those that this start of the agent has seen.
	processes uint64

	lines  chan line    // what Tell writes
	untold atomic.Int64 // lines that found no place

	leaderApplied atomic.Uint64 // see LeaderApplied

	gone    chan struct{}  // closed by Close
	waiting sync.WaitGroup // exit watchers, and cancels of plain waits
}

// beat is one heartbeat as it was sent.
type beat struct {
	number uint64
	sent   time.Duration
	except map[ID]struct{}
}

// uplink is one link and what was asked on it.
type uplink struct {
	Uplink
	nextID  uint64
	pending map[uint64]pending
	// strangers are sessions that the leader may think confirmed here and that
	// this agent does not know: never vouched for.
	strangers map[ID]struct{}
}

// pending is one proposal or query that was sent on the current link.
type pending struct {
	session    ID
	attachment uint64
	what       proposalKind
	seq        uint64
	chore      choreKey
	list       int // of a reconcile: the application's list it carries; 0: none
	call       *call
	trace      *linkpb.Trace // what the leader is told of who asks; nil: nobody records it
}

type proposalKind uint8

const (
	proposeAttach proposalKind = iota + 1
	proposeRequest
	proposeReconcile
	proposeChore
	proposeAck
	proposeCall
)

// New makes a Host. It starts nothing.
func New(cfg Config) *Host {
	if cfg.Metrics == nil {
		cfg.Metrics = noMetrics{}
	}
	return &Host{
		cfg:        cfg,
		sessions:   make(map[ID]*session),
		identities: make(map[string]int),
		calls:      make(map[*call]struct{}),
		askings:    make(map[waitKey]*asking),
		lines:      make(chan line, linesMax),
		gone:       make(chan struct{}),
		reach:      api.Reason_REASON_NO_LEADER,
	}
}

// Close ends every stream and call and waits for what Serve left behind. It
// releases no hold: the processes live on, and resume with the next agent.
func (h *Host) Close() {
	h.mu.Lock()
	if !h.closed {
		h.closed = true
		close(h.gone)
		for _, s := range h.sessions {
			s.detach()
		}
	}
	h.mu.Unlock()
	h.waiting.Wait()
}

// LinkUp begins a new link. Whatever was asked on an older one is asked again:
// sessions are reconciled, unanswered opens and resumes repeated.
func (h *Host) LinkUp(u Uplink) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.up = &uplink{Uplink: u, pending: make(map[uint64]pending), strangers: make(map[ID]struct{})}
	h.beats, h.heard = nil, 0
	h.urgent = true
	for _, s := range h.sessions {
		s.confirmed = false
		h.sync(s)
	}
	for c := range h.calls {
		if c.wait != nil {
			c.wait.stirred() // no stir comes from a leader that was not asked
		}
		h.sendCall(c)
	}
	h.cfg.Wake()
}

// LinkDown tells that the link is over. Its frames are not to be handed to
// Receive any more.
func (h *Host) LinkDown() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.up = nil
	h.beats = nil
	for _, s := range h.sessions {
		s.confirmed = false
	}
}

// Receive takes frames from the current link, in order.
func (h *Host) Receive(frames []*link.Down) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.up == nil {
		return
	}
	now := h.cfg.Clock()
	for _, f := range frames {
		switch f := f.Frame.(type) {
		case *linkpb.Down_Beat:
			h.beatAnswered(f.Beat.Number, now)
			h.leaderApplied.Store(f.Beat.Applied)
		case *linkpb.Down_Proposed:
			h.proposed(f.Proposed, now)
		case *linkpb.Down_Notice:
			h.noticed(f.Notice, now)
		case *linkpb.Down_Query:
			h.queried(f.Query)
		}
	}
}

// Tick looks at every deadline, repeats what waits to be repeated, and beats
// when it is time. It returns how long the next call may wait.
func (h *Host) Tick() time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := h.cfg.Clock()
	shortest := h.shortestTTL()
	next := shortest / beatFraction
	for _, s := range h.sessions {
		if left, ok := h.look(s, now); ok && left < next {
			next = max(left, time.Millisecond)
		}
		h.exitUnbound(s, now)
		if s.retry && h.up != nil {
			h.sync(s)
		}
		h.acknowledge(s)
	}
	for c := range h.calls {
		if c.again {
			h.sendCall(c)
		}
	}
	// Reckoned anew each time: a session with a shorter TTL may have come.
	if h.up != nil && (h.urgent || now >= h.beatSent+shortest/beatFraction) {
		h.sendBeat(now)
		h.beatSent = now
	}
	if h.up != nil {
		next = min(next, max(h.beatSent+shortest/beatFraction-now, time.Millisecond))
	}
	return next
}

func (h *Host) shortestTTL() time.Duration {
	shortest := idleTTL
	for _, s := range h.sessions {
		shortest = min(shortest, max(s.ttl, ttlMin))
	}
	return shortest
}

// sendBeat speaks for every session confirmed on this link, except those whose
// process this agent cannot vouch for now. One that is not confirmed here may
// be so at the leader already, its answer being on the way: it is excepted too.
func (h *Host) sendBeat(now time.Duration) {
	h.urgent = false
	h.beatNo++
	b := beat{number: h.beatNo, sent: now, except: make(map[ID]struct{})}
	for id, s := range h.sessions {
		if !s.vouched(now) {
			b.except[id] = struct{}{}
		}
	}
	for id := range h.up.strangers {
		b.except[id] = struct{}{}
	}
	f := &linkpb.Beat{Number: b.number}
	for id := range b.except {
		f.Except = append(f.Except, id[:])
	}
	if len(h.beats) == beatsKept {
		// The oldest goes on standing for "unanswered since".
		h.beats = append(h.beats[:1], h.beats[2:]...)
	}
	h.beats = append(h.beats, b)
	h.up.Send(&link.Up{Frame: &linkpb.Up_Beat{Beat: f}})
}

// beatAnswered moves V of the sessions that the beat spoke for.
func (h *Host) beatAnswered(number uint64, now time.Duration) {
	i := 0
	for i < len(h.beats) && h.beats[i].number < number {
		i++
	}
	if i == len(h.beats) || h.beats[i].number != number {
		return
	}
	b := h.beats[i]
	h.beats = h.beats[i+1:]
	h.heard = now
	h.setReach(api.Reason_REASON_OK)
	h.cfg.Metrics.BeatAnswered(now - b.sent)
	renewed := 0
	for id, s := range h.sessions {
		if _, excepted := b.except[id]; excepted || !s.confirmed || number <= s.confirmedAfter {
			continue
		}
		if h.renewed(s, b, now) {
			renewed++
		}
	}
	h.cfg.Metrics.Renewed(renewed)
}

// propose sends one command on the link, naming the session's attachment.
func (h *Host) propose(c *command.Command, p pending) {
	if h.up == nil {
		return
	}
	h.up.nextID++
	id := h.up.nextID
	h.up.pending[id] = p
	h.up.Send(&link.Up{Frame: &linkpb.Up_Propose{Propose: &linkpb.Propose{Id: id, Command: c, Trace: p.trace}}})
}
