// Package fsm is the lock state machine: a pure function of the log. It exists
// so that what RaftLock promises can be stated, tested and fuzzed without a
// clock, a network or a disk: the same entries at the same indexes make the
// same state, the same answers and the same events on every replica.
//
// It promises the invariants I1 to I8 of the design (docs/design.md section 4).
// State.Check verifies as much of them as one state can show; tests and
// simulations call it after every command. Input never panics: an entry that
// cannot be read is void, a command that cannot be taken is answered. Only a
// broken invariant panics, because going on would spread it to snapshots.
//
// It does not promise liveness: it knows no time, so sessions end only when a
// command says so. It does not authenticate: who may propose for a session is
// the leader's business, except for secrets, attachments and tokens, which are
// compared here because only the log knows which are current.
//
// # Shape
//
// A session's sequences are its *uses*: each is a wait, a hold, a gone acquire,
// a cached answer, or a single acknowledgement above the mark. Sessions and
// uses are the state; locks, queues and counts are indexes over them, made anew
// by Restore. All live in ordered trees whose copy costs nothing, so that a
// View and its snapshot never stop applies. Uses are immutable; sessions are
// copied when first changed after a view was taken.
//
// # Threads
//
// The package starts no goroutine and takes no lock. A State belongs to one
// goroutine at a time, View included; a View may be used by any number of
// goroutines, for as long as they like.
package fsm
