// Package uds is the Unix socket side of an agent: it takes a path, asks the
// kernel who connects, and serves gRPC and HTTP/1.1 on one socket. It knows
// processes and connections; sessions and locks are the agent's. It needs Linux.
//
// # What it promises
//
//   - Two agents never serve one path. A file that is not a socket is never
//     touched; a socket file that somebody still listens on neither. Nobody can
//     connect before the file has its final owner and mode, and no client meets
//     a moment in which a stale file is gone and the new one not yet there.
//   - A [Peer] is the process that called connect, as the kernel tells it. The
//     exit of that process is seen at once, also while a forked child, or
//     whoever was handed the descriptor, keeps the connection open; a zombie has
//     exited. [Peer.Same] and [Kernel.Gone] say yes only if it is sure.
//   - Connections are bounded, in all and for each user. One that says nothing is
//     closed in time; when many say nothing, the oldest of the user who has most
//     of them, so that a silent crowd keeps nobody out who speaks.
//   - Run returns after its goroutines and all handlers have, without descriptors
//     or files that were not there before, the lock file apart.
//
// # What it does not promise
//
// That a peer may do what it asks for: there is no policy here beyond the file's
// mode. That the peer itself speaks: a descriptor can be inherited or passed on,
// and the peer remains the process that connected. Before Linux 6.5 a process
// that connected, left its connection to a child and died before it was accepted
// can be taken for a later one that got its number; from 6.5 on it cannot.
// Whoever connects while Run is not running yet, or no longer, may wait or be
// refused.
//
// A panic in a handler ends the agent, HTTP's as well as gRPC's: what is broken
// must not go on vouching. Input never panics.
//
// # Goroutines
//
// All are [Server.Run]'s, which waits for them: one that accepts, one that hears
// of exits, one for each connection that has not sent its first bytes, and those
// of grpc-go and net/http with their handlers. Listen, [Peer.Watch] and [Kernel]
// start none: ten thousand watched processes cost descriptors, not threads.
package uds
