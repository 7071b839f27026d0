package mutant

// A Rule is a safety rule that can be taken out, and the test that must notice.
type Rule struct {
	// Name is what the rule's sites ask On for, and what RAFTLOCK_MUTANT names.
	Name string
	// Rule says in one line what holds while it is in, with the design section
	// it comes from.
	Rule string
	// Package is the import path of the package whose test guards the rule.
	Package string
	// Test matches the guarding test's name, as "go test -run" reads it. It
	// must pass with the rule and fail without. The narrower, the better: what
	// fails then tells what the rule is for.
	Test string
}

const module = "github.com/raftlock/raftlock/"

// Rules are all rules that the code asks for; a test of internal/structure
// holds the two together. Grouped by the package that keeps the rule.
var Rules = []Rule{
	{"fsm-term", "an entry made under another term than the log's is void (design section 4, I8)",
		module + "fsm", "^TestStories$/^terms$"},
	{"fsm-attachment", "a command that names an attachment that is not the current one has no effect (design section 4, I8)",
		module + "fsm", "^TestStories$/^resume$"},
	{"fsm-token-reuse", "the token counter goes on when a lock is deleted and made again (design section 4, I2)",
		module + "fsm", "^TestStories$/^grant$"},
	{"fsm-end-promote", "the command that ends a session grants its locks to those who wait (design section 4, I3)",
		module + "fsm", "^TestStories$/^end$"},
	{"fsm-order", "the queue is ordered by priority, then by enqueueing (design section 4, I4)",
		module + "fsm", "^TestStories$/^priority$"},
	{"fsm-seq-repeat", "a repeated sequence gets the effect and answer of once (design section 4, I5)",
		module + "fsm", "^TestStories$/^resume$"},
	{"fsm-cancel-unseen", "cancelling a sequence not yet seen uses it up (design section 4, I5)",
		module + "fsm", "^TestStories$/^cancel$"},
	{"fsm-mark-wait", "an acknowledgement does not touch waits and holds (design section 4, I5)",
		module + "fsm", "^TestStories$/^sequences$"},
	{"fsm-snapshot-queue", "a snapshot keeps the order of the queue (design section 4, I6)",
		module + "fsm", "^TestStories$/^priority$"},
	{"fsm-reconcile-next", "a reconcile does not touch what lies at or above next (design section 7)",
		module + "fsm", "^TestStories$/^reconcile$"},
	{"fsm-reconcile-unnamed", "holds and waits below next that a reconcile does not name are given back (design section 7)",
		module + "fsm", "^TestStories$/^unlistened$"},
	{"lease-margin", "D lies 1.01 TTL after its base, so that V, 0.98 after its own, comes first (design section 5)",
		module + "lease", "^TestPromiseUnderClockRates$"},
	{"lease-except", "a beat does not renew the sessions that it excepts (design section 5)",
		module + "lease", "^TestRules$/^an_excepted_session_keeps_its_base$"},
	{"lease-newer", "a beat renews only sessions confirmed on its link (design section 5)",
		module + "lease", "^TestRules$/^its_end_failed:_a_fresh_base,_unconfirmed$"},
	{"lease-ending", "a session whose end is being proposed is renewed by nothing (design section 5)",
		module + "lease", "^TestRules$/^an_ending_session_is_not_renewed$"},
	{"lease-ttl-min", "the deadline of an agent's sessions is that of the shortest TTL among them (design section 5)",
		module + "lease", "^TestShortestTTLOfGroup$"},
	{"lease-shift", "after a pause of its own the leader shifts every deadline by the gap (design section 5)",
		module + "lease", "^TestRules$/^a_pause_of_the_leader$"},
	{"establish-term", "an entry names the term in which its leadership was established, not the present one (design section 4, I8)",
		module + "consensus", "^TestEstablishNamesTheLeadership$"},
	{"boot-promise-durable", "an agent makes its promise durable before it gives it (design section 8)",
		module + "agent/bootstrap", "^TestEachFault$"},
	{"boot-two-promises", "an agent is promised to one list at a time (design section 8)",
		module + "agent/bootstrap", "^TestEachFault$"},
	{"boot-all-promises", "a founder bootstraps only with all promises of its list (design section 8)",
		module + "agent/bootstrap", "^TestEachFault$"},
	{"boot-abandon-durable", "a founder abandons its list durably before it gives a promise back (design section 8)",
		module + "agent/bootstrap", "^TestEachFault$"},
	{"sdk-v-back", "the SDK looks at its old V before it believes anything new (design section 5)",
		module + "sdk/go", "^TestVNeverComesBack$"},
	{"sdk-ttl-first", "who asks for a smaller TTL lowers its own V first (design section 5)",
		module + "sdk/go", "^TestSmallerTTLCountsFirst$"},
	{"sdk-cancel-keep", "a cancel is kept and repeated until it is applied (design section 7)",
		module + "sdk/go", "^TestCancelIsKeptUntilConfirmed$"},
}
