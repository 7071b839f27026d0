// Package lease is the leader's clock: until when it promises to keep each
// session alive (D of design section 5), and which have run out, oldest first.
//
// It is pure. It knows no Raft and no network, starts no goroutine and reads
// no clock: every time in it is a reading of the leader's own clock
// (CLOCK_BOOTTIME in production) that the caller hands in. A Table is one
// leadership's memory: made empty when it is established, dropped when it is
// deposed, never carried into another.
//
// # What it promises
//
//   - D of a session is 1.01 TTL after the leader last heard for it, and never
//     goes back. The one exception is a change to a smaller TTL: who asks for
//     one lowers its own deadline before it asks, so nobody relies on the rest.
//     Readings that arrive out of order (two link readers) count as the later.
//   - A beat moves the base of the sessions confirmed on its link, except those
//     it excepts, and of nobody else. Silence renews nothing that the leader
//     did not confirm.
//   - A session that is ending is renewed by nothing, until the caller says
//     that its end is known not to have been logged.
//   - A beat costs O(1 + its exceptions + the last one's + sessions newly
//     confirmed), the end of a link O(1), a look at what expired O(k log k) for
//     k results, whatever the number of sessions.
//
// # What it does not promise
//
// That a session past D has ended: only the log ends sessions. Expired is a
// look; the caller confirms that it still leads, looks again, calls Ending,
// proposes, and when the proposal's turn has come asks MayEnd.
//
// A Table is not safe for concurrent use: its owner holds one lock around it.
package lease
