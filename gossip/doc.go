// Package gossip tells who is out there: which agents live, at which addresses,
// and what they say of themselves. It is Serf with memberlist underneath, and
// knows nothing about locks, Raft or links.
//
// A Pool is one agent's part in it. It puts the agent's own card into Serf's
// tags, joins for ever, and keeps a copy of what Serf knows that anybody may
// read at any time:
//
//	pool, err := gossip.New(config)
//	go pool.Run(ctx)
//	changed := pool.Changed()
//	for _, m := range pool.Members() { ... }
//	<-changed
//
// # What it promises
//
//   - Members, All, Changed, Address and Publish do not wait for Serf or the network.
//   - Members has one entry per agent name, this agent's own always among them.
//     Of several starts of an agent a living one is told, and of those the newest.
//     All has also those that use the name of another, who are warned of.
//   - An agent that comes back under its name, at another address or with another
//     server id, is told as soon as gossip carries it; nobody first has to notice
//     that the old one is gone.
//   - As long as one join target can be reached, agents find each other: after a
//     full outage, after a partition, after all addresses changed. Names are
//     resolved anew at each try.
//   - What strangers say is bounded and checked before it is told or logged.
//
// # What it does not promise
//
// Anything that a member says is a hint. Whoever can send packets here (with a
// secret key: whoever has the key) can claim any name, address and server id,
// make members look failed, and fill Serf's memory with members. The hello of
// the peer port says who is who. A member that is told as failed may be well,
// and one told as alive dead for some seconds; no lock may depend on it. Serf's
// user events and queries are not used; those of strangers are dropped.
//
// Which start of an agent is the newest is told by its host's wall clock. If
// that was set back, the older start is told until it is seen to have failed.
//
// # Threads
//
// New starts nothing. Run owns five goroutines and waits for them:
//
//   - drain takes Serf's events and does nothing else, since Serf's locks are held
//     while an event waits;
//   - keep copies Serf's members into the view, and warns of names used twice;
//   - tell hands published values to Serf, which waits for their broadcast;
//   - the joiner joins, one target after the other;
//   - the settler exchanges all with some, a few times after others were found.
//
// Serf and memberlist start some fifteen of their own. Shutdown tells them to end
// and does not wait for all: a last probe, or an answer to a stranger's
// connection, lasts up to 10 s.
package gossip
