// Speed measures how fast locks change hands, beside the log library that
// carries them: real agents, real sockets, files that are synced.
//
//	go run ./bench/speed [-duration 5s] [-rounds 3] [-workers 1,16,64]
//
// It exists because a figure of one machine says nothing about another, or
// about the same one an hour later: every figure is printed beside that of bare
// hashicorp/raft with raft-boltdb, five processes of it, taken seconds before in
// the same run, and the ratio is what to look at. Every measurement is made once
// in each round; a figure is the median over the rounds, and a ratio the median
// of the rounds' ratios.
//
// # What is measured
//
// Pairs: each worker takes and releases a lock of its own, over and over. Hand-
// offs: sixteen contenders, a session each, share one lock; the time of one is
// from the holder's call of Unlock to the return of the next one's Lock. Reads:
// sixty-four readers ask for a lock's state, linearizably. Places are sockets: a
// voter's that does not lead, the leader's, a forwarder's, and for hand-offs all
// six, with contenders spread over them.
//
// Sixteen workers share a session, as goroutines of one application do; so 64
// workers are four applications, which is about what shares a host's socket.
// They all run in this process, which therefore uses some of the same
// processors; its own use is printed beside that of the agents.
//
// Bare raft has as many proposers, goroutines in the leader's own process: no
// socket, no session, no link, no lease. Two entries a pair. Its settings are
// the agents' (timeouts, log cache, bbolt options), but for pipelining, which is
// the library's default there and which the agents refuse (hashicorp/raft#612).
// Its reads are a Barrier and a look at the leader's memory, which is the way to
// a linearizable read with the library alone. With VerifyLeader, which many use
// and which proves less (see package consensus), they are faster; that is a line
// of its own.
//
// # What it does not tell
//
// All processes share one machine and one disk: six hosts have six of each. The
// network is loopback. Nothing fails. A leader that changes during a measurement
// makes it be taken again, and is told.
//
// # Processes and goroutines
//
// The program starts every process from its main goroutine's thread with a
// parent-death signal, so that however it ends they end; on Ctrl-C and at the
// end it stops them in order and removes its directory. Workers are goroutines
// of one measurement, which waits for them.
package main
