// Package guard is the checking side of fencing tokens: it remembers the highest
// token seen for each resource and refuses lower ones.
//
// A lock alone protects nothing: a holder can be stopped for longer than any
// lease between its last look at the lock and its write, and when it goes on,
// somebody else holds the lock. What protects a resource is that the resource,
// or whoever stands before it, looks at the token that comes with each write.
// Tokens of one lock rise with every grant, so a lower one than was seen before
// is of a holder whose time is over.
//
//	g, err := guard.Open("/var/lib/reports/tokens")
//	...
//	err = g.Do(ctx, "nightly-report", token, func(ctx context.Context) error {
//		return write(ctx, report)
//	})
//	if errors.Is(err, guard.ErrStale) { ... } // another holder was here since
//
// One resource takes the tokens of one lock. Tokens of different locks do not
// compare.
//
// A store that can compare by itself needs no guard, and is better off: where the
// token lies beside the data, check and write are one step, whoever writes.
//
//	UPDATE accounts SET balance = ?, token = ? WHERE id = ? AND token <= ?
//
// # What it promises
//
// Once Check or Do has accepted a token, every lower one for that resource is
// refused for ever; equal ones pass, for a holder writes more than once. With
// Open this holds over crashes of the process and of the host: the token is on
// disk, synced, before it is accepted. A file belongs to one process at a time.
// While Do runs a write, no other token of that resource is accepted, so the
// write of a lower one cannot come after.
//
// # What it does not promise
//
// Check alone says nothing of the moment after it: between its return and your
// write, a higher token may be accepted and its holder's write be done. Either
// use Do, or check where nobody else can come between (under a mutex of the
// resource, in the transaction that writes).
//
// A guard in memory (New) forgets with its process: a stale holder may pass
// after a restart until the next one was seen. Whoever deletes the file, or puts
// an old copy of it in place, makes it forget too.
//
// # The file
//
// It is a log of batches, each with a checksum, that is appended to and synced;
// checks that come while a sync is under way share the next. A batch that was
// cut short by a crash was never accepted, and is cut off by the next Open. A
// damaged batch with intact ones behind it was accepted once: Open then refuses
// the file (ErrCorrupt) instead of forgetting. Damage to the very last batch
// cannot be told from a torn one. When the log has grown to several times what
// it says, it is written anew, beside the old one, and renamed into its place.
// A failed write or sync stops the guard for good (ErrFailed): what the disk
// then has, only a new Open can tell.
//
// Beside the file lies one with ".lock" added to its name, which stays, and while
// the log is written anew one with ".new", whose remains Open removes.
//
// # Bounds
//
// Memory grows with the number of resources, by about 60 bytes and the name for
// each, the file by up to four times 10 bytes and the name. No more than a
// million are taken (WithMaxResources), then new ones are refused (ErrFull),
// never old ones forgotten. Forget takes one away.
// A resource's name has 1 to 1024 bytes, of any value.
//
// # Goroutines
//
// It owns none: of the callers that wait for a sync, one does it.
package guard
