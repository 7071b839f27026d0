// Package daemon is one agent on a real host: it gives [agent.Agent] its disk,
// its peer port, its gossip and its sockets, and owns their lifetimes.
//
// It promises that [Open] either takes what the agent needs (data directory,
// peer port, sockets, HTTP port) or nothing, with an error that says what to
// change; and that [Daemon.Run] returns after everything it started has ended.
// Gossip alone takes its port in Run, which fails at once where it cannot.
// It holds no rule of locks, leases or elections: those are its parts'.
//
// Stopping is ordered. A leader hands leadership over first, so that others
// wait for no election. Then the sockets close and the agent ends, Raft and its
// stores last; its holders live on, and resume with the next start. Then the
// peer port closes, and gossip says goodbye at the end, since until then it
// told where this agent is. No lock of a living process is released.
//
// Under systemd ([Options.FromSystemd]) it serves the sockets that are handed in
// and leaves their files alone, says when it is ready, stopping and what it is,
// and feeds the watchdog: after agent.Agent.Progress answered, and never else
// (docs/decisions/0013).
//
// Goroutines: Run owns one for each part (gossip, the port's two halves, the
// agent, each socket, HTTP, health, watchdog, status) and waits for all of them.
package daemon
