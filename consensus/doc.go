// Package consensus keeps the lock state machine replicated: hashicorp/raft
// behind an injected transport, stores and clock, and the two things the
// library does not give in the form a lock service needs, proposals that cannot
// act in another leadership and a proof that this node still leads.
//
// It promises:
//
//   - every proposal is answered exactly once: with its result, with
//     ErrNotLeading (surely not applied), or with ErrUnknown;
//   - an entry made by one leadership does nothing in another (design section
//     4, I8): it carries the term, and the state machine compares;
//   - Confirm says yes only if a majority of the voters, asked after the call,
//     were still in this leadership's term (design section 5);
//   - the first write of a store that fails is the last one (design section 8);
//   - Close ends all goroutines started here and by the library.
//
// It does not promise that a leader knows at once that it no longer leads, nor
// anything about leases, sessions or who may ask for what: see lease, fsm and
// agent. raft.VerifyLeader and the library's leader lease are not used: they
// count non-voters and answers to questions sent earlier.
//
// Goroutines, all owned by Node and waited for in Close: drain reads raft's
// notifications, which block raft's main loop when unread; lead runs one
// leadership after another and is the only one to call Leader; beside it, for
// one round each: one that waits for a raft future, one that runs confirm
// rounds while somebody asks, and one for each voter being asked. The rest are
// the library's.
//
// One round is in flight; what comes meanwhile shares the next, which may wait a
// little for more (gather): at most half a round and 5 ms, never for a command
// that comes alone.
//
// Lock order: machine.mu, then Leadership.mu. Neither is held while an answer
// is delivered, a question asked or raft waited for.
package consensus
