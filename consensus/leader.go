package consensus

import (
	"context"
	"errors"

	"go.opentelemetry.io/otel/trace"

	"github.com/raftlock/raftlock/fsm"
	"github.com/raftlock/raftlock/fsm/command"
)

// What a proposal, a confirm or a read can fail with. Applied outcomes are not
// errors: they are results.
var (
	// ErrNotLeading: this node does not lead, or its Establish is not applied.
	// Nothing was proposed; safe to ask the leader.
	ErrNotLeading = errors.New("not leading")
	// ErrQueueFull: the proposal queue is at its bound. Nothing was proposed.
	ErrQueueFull = errors.New("proposal queue full")
	// ErrUnknown: leadership ended or the bound on waiting passed after the
	// proposal was made: it may or may not be applied. Ask the next leader by
	// the same sequence.
	ErrUnknown = errors.New("outcome unknown")
	// ErrNoQuorum: too few voters answered in time.
	ErrNoQuorum = errors.New("no quorum")
	// ErrTooLarge: the command alone exceeds an entry's bound.
	ErrTooLarge = errors.New("command too large")
)

// Proposal is one command on its way into the log.
type Proposal struct {
	Command *command.Command
	// Done is called exactly once, with the result or with ErrUnknown or
	// ErrNotLeading. Of an applied command it is called on the leadership's one
	// proposer goroutine, in log order, right after Leader.Event was called for
	// each event of that command. It must not block.
	Done func(*command.Result, error)
	// Vital proposals (releases, cancels, ends, reconciles) are not refused for
	// load: they have a bound of their own, ten times as high.
	Vital bool
	// Span, unless it is nil, gets a child for each step on the way: queue,
	// append, replicate, apply. It stays the caller's, who ends it in Done.
	Span trace.Span
}

// Leader is what consensus tells the leader's side of; the agent implements
// it. All methods are called on one goroutine, none may block or call back
// into Leadership in a way that waits. Established and Admit are called while
// the state stands still: they must not call Node's StaleView, Inspect or Read,
// nor take a mutex that is held by who calls those.
type Leader interface {
	// Established begins leadership l: its Establish was applied, and s is the
	// state as of then. s must not be kept. Links may be taken from now on.
	// A leadership lost before that is never told of.
	Established(l *Leadership, s *fsm.State)
	// Admit looks at a proposal when its turn has come: all earlier rounds are
	// applied in s, and touched says whether an earlier command of this round
	// concerns the same session. A non-nil result answers it without logging,
	// at once and without a proof that this leadership still is one: a
	// successor may know better.
	Admit(c *command.Command, s *fsm.State, touched bool) *command.Result
	// Event tells of one effect of an applied command, in log order.
	Event(e fsm.Event)
	// Deposed ends leadership l. It is called once for each Established, also
	// when the node closes; every outstanding proposal was answered before it.
	Deposed(l *Leadership)
}

// Asker asks a voter's agent for its term; the agent implements it over the
// peer port. An answer that does not name server id and cluster id is an error.
//
// The question must leave after the call: an answer that was under way before
// proves nothing. AskTerm must end with ctx; until it does, its server is not
// asked again.
type Asker interface {
	AskTerm(ctx context.Context, server ServerID, address string) (term uint64, err error)
}
