// Package raftlock is the Go client of a RaftLock agent: locks that are free
// milliseconds after their holder dies, with a fencing token for every grant.
//
//	session, err := raftlock.NewSession(ctx)
//	...
//	defer session.Close(ctx)
//	lock, err := session.Lock(ctx, "nightly-report")
//	...
//	defer lock.Unlock(ctx)
//	token, err := lock.Token() // send it with every write; the store refuses lower ones
//
// # What it promises
//
// A handle that says it is valid was held at that instant: by this host's clock
// the handle's deadline V passes before anybody else is granted the lock, and
// Valid, Token and Unlock compare the clock with V when they are called. A
// handle that was lost stays lost; taking the lock anew is a new handle with a
// new token. A request is applied at most once, however often streams break:
// its sequence names it. A call whose context ends leaves nothing behind: its
// wait or grant is undone, and the undoing is repeated until it is confirmed.
//
// # What it does not promise
//
// Work that was already on its way to another system when V passed is not
// called back: only the token, checked by that system, protects it. Lost,
// Revoked and Context follow a loss as fast as the scheduler lets them; they
// are hints, the checks are not. A stopped process learns nothing until it runs
// again. Two Lock calls for one name in one session contend like strangers.
//
// # Clocks
//
// Deadlines are readings of CLOCK_BOOTTIME, which a host's processes share. A
// process whose clock cannot be compared with its agent's (a time namespace)
// is refused with ErrClock: a deadline it cannot read protects nobody.
//
// # Goroutines
//
// A Session owns three, and Close waits for all of them: run (dials, sends,
// beats), one reader for each stream, which run waits for, and watch (marks
// holds as lost when their V passes and logs it). No callback is ever called
// but the logger, never with the session's mutex held. A Client owns nothing.
//
// What any SDK must do is listed in sdk/DUTIES.md; each line names its test.
package raftlock
