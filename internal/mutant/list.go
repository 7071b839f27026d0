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

// Rules are all rules that the code asks for; a test of internal/structure
// holds the two together. Grouped by the package that keeps the rule.
var Rules = []Rule{}
