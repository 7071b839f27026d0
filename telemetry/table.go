package telemetry

import "slices"

// Kind is what sort of number a metric is, in Prometheus' words.
type Kind string

// The kinds.
const (
	Counter   Kind = "counter"
	Gauge     Kind = "gauge"
	Histogram Kind = "histogram"
)

// Label is one label of a metric and all the values it takes. Values is empty
// where they are the names of RPCs and codes: bounded, but not listed here.
type Label struct {
	Name   string
	Values []string
}

// Metric is one row of the table of metrics: what docs/metrics.md says, what
// /metrics shows and what goes out over OTLP.
type Metric struct {
	Name string
	Kind Kind
	// Unit is s for seconds, or empty for a plain number.
	Unit   string
	Labels []Label
	Help   string
}

// How an acquire came out: values of the label outcome.
const (
	// Granted: it holds.
	Granted = "granted"
	// Held: somebody else holds, and it did not want to wait.
	Held = "held"
	// Queued: it waits. An outcome of an answer, not of an acquire.
	Queued = "queued"
	// Cancelled: its caller gave it up, or its time was up.
	Cancelled = "cancelled"
	// Refused: a bound or a limit forbade it, or it was invalid.
	Refused = "refused"
	// Ended: its session ended first.
	Ended = "ended"
	// Failed: no leader, no quorum, or anything that should not happen.
	Failed = "error"
)

// How a hold ended: values of the label how.
const (
	// Released: its application gave it up.
	Released = "released"
	// Lost: V passed unrenewed; the agent gave it back.
	Lost = "lost"
	// Revoked: an administrator took it.
	Revoked = "revoked"
	// SessionEnded: its session ended, by its application or by its death.
	SessionEnded = "session_ended"
)

// The roles of an agent: values of the label role.
const (
	Voter     = "voter"
	Standby   = "standby"
	Forwarder = "forwarder"
	Fresh     = "fresh"
)

var (
	outcomes = []string{Granted, Held, Cancelled, Refused, Ended, Failed}
	answers  = []string{Granted, Queued, Held, Cancelled, Refused, Ended, Failed}
	hows     = []string{Released, Lost, Revoked, SessionEnded}
	waits    = []string{Granted, Cancelled, Ended, Failed}
	roles    = []string{Voter, Standby, Forwarder, Fresh}
)

// The fixed names of design section 10. What they count is this agent's own
// applications' doing, wherever the leader is: the sum over agents is the
// cluster's.
const (
	acquireTotal  = "lock_acquire_total"
	releaseTotal  = "lock_release_total"
	renewTotal    = "lock_renew_total"
	activeCount   = "lock_active_count"
	raftTerm      = "raft_term"
	raftState     = "raft_state"
	raftCommit    = "raft_commit_index"
	raftElections = "raft_election_count"
)

// The others.
const (
	acquireSeconds = "raftlock_acquire_duration_seconds"
	waitSeconds    = "raftlock_wait_duration_seconds"
	holdSeconds    = "raftlock_hold_duration_seconds"
	renewSeconds   = "raftlock_renew_duration_seconds"
	commitSeconds  = "raftlock_commit_duration_seconds"
	waitersNow     = "raftlock_waiters"
	sessionsNow    = "raftlock_sessions"
	roleNow        = "raftlock_role"
	rpcTotal       = "raftlock_rpc_total"
	rpcSeconds     = "raftlock_rpc_duration_seconds"
)

// table has every metric of this tree. The Go runtime's (go_*), the process's
// (process_*), and those of the Raft and Serf libraries (lib_*) come beside it
// at /metrics.
var table = []Metric{
	{acquireTotal, Counter, "", []Label{{"outcome", outcomes}},
		"Acquires of this agent's applications that came out, by how; granted counts the locks they got. " +
			"Counted once each, when the application is told, however often it was repeated on the way. " +
			"An acquire by the owner that holds already is a renewal and not counted here."},
	{releaseTotal, Counter, "", []Label{{"how", hows}},
		"Holds of this agent's applications that ended, by how. " +
			"A session's hold ends once, so its granted acquires less its releases are its active holds, but for those from before this agent's start. " +
			"A plain hold that its owner leaves to run out is not counted."},
	{renewTotal, Counter, "", nil,
		"Renewals that moved a hold's deadline: one for each session that holds and each answered heartbeat, one for each change of TTL, " +
			"and one for each plain renewal, an acquire by the holder included."},
	{activeCount, Gauge, "", nil,
		"Holds of this agent's applications now. A plain hold counts at the agent where it was last acquired or renewed; " +
			"an agent that it moved away from learns nothing of that, and counts it until the deadline that it told."},
	{raftTerm, Gauge, "", nil,
		"Raft's term at this member. Absent on forwarders."},
	{raftState, Gauge, "", nil,
		"Raft's state of this member: 0 follower, 1 candidate, 2 leader. Absent on forwarders."},
	{raftCommit, Gauge, "", nil,
		"The last index of the log that this member knows to be committed. Absent on forwarders."},
	{raftElections, Gauge, "", nil,
		"Elections that this voter stood in since it started. It only rises; by type it is a gauge, " +
			"since a counter of this name would be shown under another one in OpenMetrics. Absent on forwarders."},
	{acquireSeconds, Histogram, "s", []Label{{"outcome", answers}},
		"From an acquire's arrival at this agent to its first answer: granted at once, queued, or why not. What it then waits is in the wait time."},
	{waitSeconds, Histogram, "s", []Label{{"outcome", waits}},
		"From being queued to being granted, or to giving up."},
	{holdSeconds, Histogram, "s", []Label{{"how", hows}},
		"From a grant that this agent told its application to the hold's end. Holds from before this agent's start are not in it."},
	{renewSeconds, Histogram, "s", nil,
		"From sending a heartbeat to the leader to its answer: for all sessions of this agent at once."},
	{commitSeconds, Histogram, "s", nil,
		"At the leader: from a proposal's place in its queue to its being applied, for each command."},
	{waitersNow, Gauge, "", nil,
		"Acquires of this agent's applications that wait in a queue now."},
	{sessionsNow, Gauge, "", nil,
		"Sessions attached to this agent now. Plain requests have none."},
	{roleNow, Gauge, "", []Label{{"role", roles}},
		"1 for the role that this agent has, 0 for the others; fresh: of no cluster yet."},
	{rpcTotal, Counter, "", []Label{{Name: "rpc"}, {Name: "code"}},
		"Calls that ended at this agent's sockets: gRPC methods with their code's name, HTTP routes with their status. " +
			"A session's stream is one call, and each request on it (Session/Acquire, Session/Release, Session/SetTTL) is one with its reason."},
	{rpcSeconds, Histogram, "s", []Label{{Name: "rpc"}, {Name: "code"}},
		"How long those calls took. A session's stream takes as long as the session keeps it."},
}

// Table is every metric of this tree, for documentation. The copy is the
// caller's.
func Table() []Metric { return slices.Clone(table) }

func row(name string) Metric {
	i := slices.IndexFunc(table, func(m Metric) bool { return m.Name == name })
	return table[i]
}

// Bounds of histogram buckets, in seconds. A lock service's good day is below a
// millisecond, a wait can be an hour.
var (
	quickBounds = []float64{
		.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10,
	}
	slowBounds = []float64{
		.001, .005, .01, .05, .1, .5, 1, 5, 10, 30, 60, 300, 1800, 3600,
	}
)
