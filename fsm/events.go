package fsm

import "github.com/raftlock/raftlock/fsm/command"

// ID names a session: 128 random bits that the client made, or for a plain
// session the hash of owner and lock.
type ID = [16]byte

// EventKind says what an Event tells.
type EventKind uint8

// The kinds of events. The fields each of them sets are named here; Session is
// always set.
const (
	// EventOpened: the session came into being. Attachment, Incarnation (0 for
	// a plain session), TTLNanos.
	EventOpened EventKind = iota + 1
	// EventResumed: attached anew. Attachment, Incarnation, TTLNanos, and
	// WasIncarnation, WasAttachment of the one it left.
	EventResumed
	// EventTTL: its TTL changed. TTLNanos.
	EventTTL
	// EventRenewed: a plain session's holder or waiter asked again. TTLNanos.
	EventRenewed
	// EventGranted: a queued acquire was granted by somebody else's command
	// (an acquire granted at once says so in its own result, and makes no
	// event). Attachment, Incarnation, Seq, Token, Lock.
	EventGranted
	// EventGone: a hold or wait went by another's command (force, revocation,
	// the leader's release). Attachment, Incarnation, Seq, Token, Lock, Gone.
	EventGone
	// EventRevoked: a hold was marked. Attachment, Incarnation, Seq, Token,
	// Lock, TTLNanos.
	EventRevoked
	// EventEnded: the session is no more. Attachment, Incarnation, Reason.
	EventEnded
)

// Event is one effect of a command that somebody other than its proposer must
// hear of: the leader's leases, or the agent a session is attached to.
type Event struct {
	Kind           EventKind
	Session        ID
	Attachment     uint64
	Incarnation    uint64
	WasAttachment  uint64
	WasIncarnation uint64
	TTLNanos       uint64
	Seq            uint64
	Token          uint64
	Lock           string
	Gone           command.Gone
	Reason         command.EndReason
}

// Outcome is what one log entry did. Results and Events have one element a
// command, in order; Events[i] is what command i did.
type Outcome struct {
	Index uint64
	// Void: made under another term, of an unknown format, undecodable, or
	// already applied. Nothing changed.
	Void    bool
	Results []*command.Result
	Events  [][]Event
}
