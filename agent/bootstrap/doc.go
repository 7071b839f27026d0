// Package bootstrap is the first start of a cluster (design section 8,
// "Bootstrap once"): it turns a handful of agents that see each other by gossip
// into one cluster, once, whatever dies on the way. Gossip cannot do that by
// itself: two agents with different views would each make a cluster.
//
// The lowest-named eligible agent stands as founder with a list of --expect
// agents and a random cluster id. Every listed agent promises itself, durably,
// to at most one list at a time. With all promises in, the founder and nobody
// else bootstraps Raft with exactly that list; the others start Raft empty, for
// that cluster id only. docs/decisions/0005-bootstrap.md tells why.
//
// # Promises
//
//   - No agent is ever in two clusters: a cluster has all its promises, and a
//     promise is given back by nobody but its founder, who durably abandoned
//     the list before it says so, or by the operator's word (Forget).
//   - So fewer than twice as many fresh agents as expected never make two.
//   - What an Answer says is durable before it is returned.
//   - All are of one cluster soon after all are up and see each other.
//
// # Not promised
//
//   - A founder that died is waited for, loudly and without end: only it knows
//     whether it completed its list. Forget is for a founder that never returns
//     with its data. Said of one that lives, it can make two clusters.
//   - Enough agents, cut in two before their first start, make two clusters;
//     Config.Initial rules that out. Two cluster ids in one view are reported,
//     not mended.
//   - A data directory that was copied, or put back from a backup, breaks
//     promises. Agents must agree on Expect and Initial; one that expects 1
//     makes a cluster by itself.
//   - Gossip is believed for nothing that lasts: what it hints at is asked of
//     the agent itself, whose answer names its server id.
//
// # Life
//
// New, then serve Answer on the peer port, then Run until it has decided, then
// (the founder, when Raft holds the list durably) Founded, then Watch as long
// as the agent lives. After a restart the same again: Run returns what was
// decided.
//
// # Goroutines
//
// New starts none. Run and Watch are the caller's goroutine; never both at a
// time. While they ask several agents at once, each question has a goroutine,
// bounded by AskTimeout and waited for before the next step; there are never
// more than the list is long. Answer, Forget, Status and ClusterID are safe
// from any goroutine; Answer and Forget may wait for a save.
package bootstrap
