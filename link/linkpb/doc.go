// Package linkpb has the frames of the peer port, generated from link.proto:
// what agents send up and down their links to the leader, and the questions
// they ask each other. Frames carry commands and results as the log has them;
// docs/decisions/0003-link-carries-commands.md says why.
//
// Agents one version apart read each other's frames, so fields are only ever
// appended. It has no logic and owns no goroutine.
package linkpb
