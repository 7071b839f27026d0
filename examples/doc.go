// Package examples holds runnable programs, one idea each; README.md lists them.
// They are for reading first: each is one file that uses the SDK as an
// application would. Each checks at its end that what the lock is for was kept,
// and exits with 1 if not; a flag takes the lock, or the guard, out, and then it
// is not kept.
//
// The package itself has the tests that run them against a real agent.
package examples
