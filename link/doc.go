// Package link is the seam between agents: the two ends of a link, which
// carries frames between an agent and the leader, and the questions that agents
// ask each other. What is sent is in linkpb; what it means is agent's to say.
//
// It promises to those who use it what the interfaces here ask of those who
// implement them: frames of one Send arrive together and in order, or the link
// is dead and both ends are told. It does not promise that what was sent
// arrived: only an answer tells, and whoever links anew reconciles.
//
// The package owns no goroutine; an implementation names its own.
package link
