// Package key has the names that logs and spans use for one and the same thing,
// so that a line of the log and a span can be found by each other.
//
// The words are those of design section 2. A log attribute is the bare word, a
// span's attribute has the prefix of this project ([SpanPrefix]). It depends on
// nothing, so that any package may name things by it.
package key

// Keys of log attributes.
const (
	// Component is the part of the agent that a line comes from.
	Component = "component"
	// Lock is a lock's name.
	Lock = "lock"
	// Session is a session's id in hexadecimal digits; Attachment the number
	// under which it is attached now.
	Session    = "session"
	Attachment = "attachment"
	// Token is the fencing token.
	Token = "token"
	// Owner is the caller's own name for itself, of a plain request.
	Owner = "owner"
	// Agent is an agent's name; Address where its peer port is reached.
	Agent   = "agent"
	Address = "address"
	// Node is a Raft server's id.
	Node = "node"
	// Cluster is a cluster's id.
	Cluster = "cluster"
	// Role is voter, standby, forwarder or fresh; State is Raft's follower,
	// candidate or leader.
	Role  = "role"
	State = "state"
	// Term is Raft's term; Index an index of its log.
	Term  = "term"
	Index = "index"
	// Candidate is the Raft server that a vote was asked by or given to.
	Candidate = "candidate"
	// Leader is the Raft server that leads.
	Leader = "leader"
	// Reason says why, in one word of a bounded set; Error is an error's text.
	Reason = "reason"
	Error  = "error"
	// TraceID and SpanID name the span in whose course a line was logged.
	TraceID = "trace_id"
	SpanID  = "span_id"
)

// SpanPrefix goes before a key where it names an attribute of a span.
const SpanPrefix = "raftlock."

// Keys of span attributes.
const (
	SpanLock    = SpanPrefix + Lock
	SpanSession = SpanPrefix + Session
	SpanToken   = SpanPrefix + Token
	SpanOwner   = SpanPrefix + Owner
	SpanTerm    = SpanPrefix + Term
	SpanIndex   = SpanPrefix + Index
	SpanLeader  = SpanPrefix + Leader
	SpanReason  = SpanPrefix + Reason
	// SpanOutcome is how an acquire ended, SpanPosition the place in the queue,
	// SpanHolder the session that was in the way, SpanCommands how many commands
	// shared an entry.
	SpanOutcome  = SpanPrefix + "outcome"
	SpanPosition = SpanPrefix + "position"
	SpanHolder   = SpanPrefix + "holder"
	SpanCommands = SpanPrefix + "commands"
)
