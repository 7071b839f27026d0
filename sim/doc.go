// Package sim is a whole cluster in one process on virtual time: hosts with
// clocks of their own, a network and disks in memory, faults as methods, a
// history and checkers. It exists so that the agent that ships can be run
// through years of partitions, crashes, pauses and slow disks in minutes.
//
// A [World] lives in a testing/synctest bubble. It owns [Host]s; what a host
// offers (a raft transport, a link.Network, a [Disk], a clock, local streams)
// is handed to the agent that is built on it.
//
// # What it promises
//
//   - A network that is as bad as asked for and no worse: messages of a
//     connection arrive in order or the connection breaks; a datagram (a raft
//     RPC, a question) arrives at most once.
//   - A crashed incarnation has no effect on anything any more, whether its
//     goroutines have ended or not: its disk handles and transports are dead.
//   - A crash keeps of each write in flight nothing, a prefix or all of it, and
//     everything that was acknowledged.
//   - Every message has a number and a stable name ([Frame.Key]), and a hook
//     may act on it ([World.OnFrame]).
//   - Nothing of the world runs after [World.Close].
//
// # What it does not promise
//
//   - Replay. A seed repeats the fault schedule and every draw of delays and
//     losses on each directed link, not the interleaving of goroutines:
//     hashicorp/raft draws its timeouts from the global source and the runtime
//     shuffles selects. Same faults, not the same run.
//   - Paused computation. A paused host's messages and disk writes are held and
//     its lease clock runs, but its goroutines keep running.
//   - Byte-level faults: no torn frames, no codec. Other tests cover those.
//
// # Goroutines
//
// The world starts a goroutine for each served link ([link.Handler].Link), and
// its timers run in short goroutines of their own: arrivals, answers to
// questions, heartbeat handlers, restarts. All are waited for by World.Close.
//
// # Locks
//
// One mutex, World.mu, guards hosts, network, streams, disks and history. It is
// never held over anything that waits in virtual time (that would hang the
// bubble), and no code of others is called under it: not hooks, not handlers,
// not context cancellation, not testing.TB. Clocks are read without it.
package sim
