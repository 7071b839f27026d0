// Package agent puts RaftLock together on one host: it builds the parts, owns
// their lifetimes, and routes to the leader.
//
// An [Agent] belongs to a cluster (package agent/bootstrap finds or founds it),
// runs a Raft server where it is a member (package consensus), serves the peer
// port ([Agent] is a link.Handler), keeps one link to the leader, and keeps its
// own host's sessions over it (package agent/session). While its Raft server
// leads, a leading value is the leader's side: leases, links, sweeper.
//
// It promises that everything handed to it - network, disk, clocks, randomness
// - is all that it uses of the world, so that the same agent runs on sockets
// and in a test bubble; and that Run returns after all its goroutines have.
// Stopping it releases no lock of a living process.
//
// Goroutines: ARCHITECTURE.md, "Threads". Run waits for all but those that
// serve links, which are their server's.
package agent
