// Package runner holds a lock while a command runs: what "raftlock run" does.
//
// # What it promises
//
// The command starts after the lock was granted and after its process has
// joined the session, so a runner that is killed leaves no instant in which the
// lock is free and the command alive: the kernel kills the command (PDEATHSIG),
// and the session ends when both processes are known to be gone. Before the
// hold's deadline V passes unrenewed, everything in the command's process group
// has had a SIGTERM and, its stopping time later, a SIGKILL. The lock is given
// back when nothing of the group is left.
//
// # What it does not promise
//
// Processes that left the group (setsid, daemons) are not followed. A runner
// that is itself stopped (SIGSTOP) forwards nothing and kills nothing; the
// command then runs past V. A command that gains privileges when it is executed
// (setuid, file capabilities) loses its PDEATHSIG. When the runner is killed
// with SIGKILL, the kernel kills the command, not the command's own children.
// In all of these the token is what protects: the command has it in its
// environment, and the resource should refuse lower ones.
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
// # Goroutines
//
// Run decides everything. Beside it: the keeper, whose thread is the parent
// that the kernel watches and which waits for the children; the reader of the
// shim's reports; and, while the turn is waited for, the acquire and its
// notice. Run waits for all of them.
package runner
