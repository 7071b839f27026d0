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
// holds as lost when their V passes and logs it). A Member owns two, and its
// Close waits for them: run and a reader for each stream. No callback is ever
// called but the logger, never with a mutex held. A Client owns none; those of
// the connection that reads share are gRPC's, and Client.Close ends them.
//
// # Reading, and joining
//
// Client.Get, List, Locks and Status read; by default what they tell was true
// when it was read, which is not to say that it still is. A decision to write
// belongs to a handle and its token, never to a read.
//
// A further process of the host joins a session by its Pass: what it does is
// then part of what the locks of the session protect, and the session ends at
// once only when all of its processes are gone.
//
// # Plain requests
//
// Client.Acquire, Renew and Release are for callers that come and go and so have
// no session: the hold is the owner's, a name that the caller chose. Two
// processes under one owner name share its locks, and a hold whose holder died
// stays until its TTL has passed. Whoever lives as long as the hold wants a
// Session.
//
// What any SDK must do is listed in sdk/DUTIES.md; each line names its test.
package raftlock
