// Package mutant takes one safety rule at a time out of the product, so that
// tests can show that they notice. A rule's site asks On("its-name"); in an
// ordinary build the answer is a constant, so nothing of it ships. Built with
// the tag "mutants", the variable RAFTLOCK_MUTANT names the rule to take out.
//
// "make mutants" walks the list of rules and the stories that guard them.
package mutant
