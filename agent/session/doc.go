// Package session is the holder's side of leases: what an agent believes of
// the sessions of its own host's applications, and what it vouches for.
//
// A [Host] keeps every session that is attached to this agent. Applications
// speak to it over session streams ([Host.Serve]); the cluster speaks to it
// over the agent's one link to the leader ([Host.LinkUp], [Host.Receive]). It
// promises that
//
//   - V, the holder's deadline of a session, is moved only by what design
//     section 5 allows, and never comes back: whoever moves it looks at the old
//     one first, and what had been reported as held by then is lost;
//   - a request of an application is forgotten only when it was answered, and
//     a cancel, a lost hold's release and a dead process's end are repeated
//     until they are applied;
//   - after every new link it says all that it believes, and takes the
//     cluster's word for it.
//
// It does not promise that a hold is still held when its answer is read: that
// is what V, checked at use, and the fencing token are for. It knows no Raft
// and no network, reads the clock it is handed, and compares it with no other
// host's.
//
// What it logs of sessions is written by [Host.Tell], which its owner runs: a log
// that nobody takes stops no beat.
//
// Goroutines: each Serve owns one that writes its stream's queue; the Host one for
// each process of a session, which waits for its exit, and one for each plain
// wait that is being cancelled. Close waits for them. All state is guarded by the Host's one mutex, which is never held while
// something blocks.
package session
