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
}
