package tracing

import (
	"go.opentelemetry.io/otel/attribute"

	"github.com/raftlock/raftlock/telemetry/key"
)

// Scope names the tracer of the agent's parts.
const Scope = "github.com/raftlock/raftlock"

// Names of spans. The SDKs' are raftlock.acquire and raftlock.release.
const (
	// Serve is at the application's agent, from the arrival of a request with a
	// sequence to its final answer: an acquire's is held, refused or gone.
	Serve = "serve"
	// Forward is until the leader's answer is here, over however many links.
	Forward = "forward"
	// Wait is at the waiter's agent, from the answer that it waits to the news
	// of the grant, or of its end.
	Wait = "wait"
	// Commit is at the leader, from its link's reader to the outcome.
	Commit = "commit"
	// Queue, Append, Replicate and Apply are a commit's steps. But for Queue
	// they are the same for all commands of one round.
	Queue     = "queue"
	Append    = "append"
	Replicate = "replicate"
	Apply     = "apply"
)

// Keys of attributes: those of package key, and what only spans have. There is
// no convention for locks; these are ours.
const (
	Lock    = attribute.Key(key.SpanLock)
	Session = attribute.Key(key.SpanSession) // hexadecimal
	Token   = attribute.Key(key.SpanToken)
	Owner   = attribute.Key(key.SpanOwner)
	// Outcome is one of the Outcome constants; Reason is a name of the API's
	// enum of reasons, such as HELD, where there is one.
	Outcome = attribute.Key(key.SpanOutcome)
	Reason  = attribute.Key(key.SpanReason)
	// Position in the queue when the wait began; the next to be granted is 1.
	Position = attribute.Key(key.SpanPosition)
	// Term and Index are the log's; Commands is how many share the round.
	Term     = attribute.Key(key.SpanTerm)
	Index    = attribute.Key(key.SpanIndex)
	Commands = attribute.Key(key.SpanCommands)
	// Leader is the leader's server id, Hops how many connections away it is:
	// 0, this agent leads, or 1. Repetitions are sendings beyond the first.
	Leader      = attribute.Key(key.SpanLeader)
	Hops        = attribute.Key(key.SpanLeader + ".hops")
	Repetitions = attribute.Key(key.SpanPrefix + "repetitions")
	// Of who had the lock when it was asked for: the token, the agent, and the
	// owner of a plain hold or the identity of a session's process.
	HolderToken = attribute.Key(key.SpanHolder + ".token")
	HolderAgent = attribute.Key(key.SpanHolder + ".agent")
	HolderOwner = attribute.Key(key.SpanHolder + ".owner")
	// Request is "acquire", "release" or "set_ttl".
	Request = attribute.Key(key.SpanPrefix + "request")
	// Link says on a link what it leads to: LinkHolder.
	Link = attribute.Key(key.SpanPrefix + "link")
)

// LinkHolder marks the link to the acquire that has the lock.
const LinkHolder = "holder"

// Outcomes of spans. Those from OutcomeRefused on make the status an error.
const (
	OutcomeHeld     = "held"
	OutcomeReleased = "released"
	OutcomeApplied  = "applied"
	OutcomeWaiting  = "waiting"
	// OutcomeCancelled: the application wants it no more.
	OutcomeCancelled = "cancelled"
	OutcomeRefused   = "refused"
	// OutcomeGone: it was granted, or waited, and is no more.
	OutcomeGone = "gone"
	// OutcomeUnknown: it may be applied or not. A request that is asked again
	// goes on in another span.
	OutcomeUnknown = "unknown"
)

// Names of events within spans.
const (
	// EventGranted is at the end of a wait.
	EventGranted = "granted"
	// EventRepeated: sent again over another link.
	EventRepeated = "sent again"
	// EventRenewing: granted with too little left before V; reported after the
	// next renewal.
	EventRenewing = "renewed before it is reported"
)
