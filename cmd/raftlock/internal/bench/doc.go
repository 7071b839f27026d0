// Package bench measures what locks cost through the local agent: many workers
// take and give back locks for a while, each its own or all the same one. It
// exists so that whoever runs a cluster can tell what it does, and what a change
// did to it, without writing a program.
//
// It promises that nothing is left held or waited for when Run has returned,
// whatever it returned, as far as the agent could be told; and that a latency is
// told within one part in a hundred, the largest one exactly. It does not
// promise that the agent is driven as hard as can be: a worker asks again only
// when it was answered.
//
// Run owns a goroutine for each worker and one for the progress, and waits for
// all of them.
package bench
