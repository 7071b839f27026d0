// Package runner holds a lock while a command runs: what "raftlock run" does.
//
// # What it promises
//
// The command starts after the lock was granted and after its process has
// joined the session. Before the hold's deadline V passes unrenewed, everything
// in the command's process group has had a SIGTERM and, its stopping time later,
// a SIGKILL. The lock is given back when nothing of the group is left, be it the
// runner's descendant or not.
//
// A runner that is killed leaves no instant in which the lock is free and the
// group alive: a second process beside it, the warden, is one of the session's
// too, kills the group when the runner dies, and exits when nothing of it is
// left; and the session ends when all its processes are known to be gone. The
// command's own process is killed by the kernel meanwhile (PDEATHSIG). A runner
// that is stopped (SIGSTOP) or held up loses its group to the warden before V.
//
// # What it does not promise
//
// Processes that left the group (setsid, daemons) are not followed. A host that
// is frozen with all its processes runs on past V when it thaws, until the
// warden is scheduled. Where runner and warden are killed together, or a runner
// within the milliseconds in which a warden that died is replaced, the kernel
// kills the command's own process and not its children; where both are stopped,
// nobody kills. A command that gains privileges when it is executed (setuid,
// file capabilities) loses its PDEATHSIG and cannot be killed by an unprivileged
// warden: the session then outlives it, or ends with its lease. After a restart
// of the agent, which does not know the joined processes any more, a runner's
// death leaves the lock to its lease. In all of these the token is what
// protects: the command has it in its environment, and the resource should
// refuse lower ones.
//
// # Processes
//
// The command is started through a shim, a hidden verb of the same executable:
// it reads the session's pass from an inherited pipe, joins the session as the
// process that the command will be, asks the runner whether it is still in
// time, and executes the command. The runner is the reaper of orphans among
// its descendants, so that it learns when the last of the group is gone. It
// must have no other children.
//
// The warden is another hidden verb. It starts before the shim, with nothing
// but a socket to the runner, in a session of its own. The runner sends it the
// pass and a pidfd of the group's leader, which from Linux 6.9 on names the
// group itself: no later group of that number can be hit. (On older kernels the
// number is used. It is the group's as long as that has a member; what remains
// is the instant between the group's end and the runner's word of it.) When both
// have joined, the runner tells the warden when to kill, and only then lets the
// shim go on; later it tells every new deadline, and at last that the group is
// gone. A warden that died is replaced; if that fails the command is stopped,
// since nobody would end it after the runner.
//
// # Goroutines
//
// Run decides everything. Beside it: the keeper, whose thread is the parent
// that the kernel watches and which waits for the children; the reader of the
// shim's reports and that of the warden's; one that waits for the warden to
// leave; and, while the turn is waited for, the acquire and its notice. Run
// waits for all of them, but for those of a group that cannot be killed. Warden
// has one that looks for the runner's end while it joins, and waits for it.
package runner
