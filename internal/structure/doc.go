// Package structure holds what is true of the source tree as a whole: who may
// import whom (design section 3), that every package says why it exists, that
// generated files come from their sources, and that the list of safety rules
// and the code agree. All of it is in this package's tests; a failure names the
// rule and its reason.
//
// The tests read sources, whatever their build tags, and ask "go list" only for
// what is imported indirectly. They need Go and nothing else: no git, no
// network. They do not check what a compiler or "make verify" checks.
package structure
