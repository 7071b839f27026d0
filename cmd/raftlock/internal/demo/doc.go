// Package demo runs a whole cluster of real agents on this host, so that people
// can see one, break it and watch it mend itself: what "raftlock demo" does.
//
// # What it promises
//
// Each agent is a process of its own with its own loopback address, sockets,
// data directory and log, all under one directory. cluster.json there appears
// at once and whole, when all are started. Nothing is restarted: what is killed
// stays dead until somebody starts it, with the command that cluster.json has.
// When Run returns, or its process dies in whatever way, what it started is
// gone. A directory used again has the same cluster at the same addresses.
//
// # What it does not promise
//
// It says what agents say, by asking each a few times a second: what happens
// between two questions is not seen. All agents share one disk and one fate; it
// is no deployment.
//
// # Goroutines
//
// Run decides and prints. Beside it: the starter, whose thread is the parent
// that the kernel watches; for each agent one that waits for its process and
// one that asks it. Run waits for all of them.
package demo
