// Package command has the messages of log entries: what a leader proposes and
// what a command answers, generated from command.proto, with the bounds of I7
// and the cluster version of each kind beside them.
//
// The log outlives the code, so kinds and fields are only ever appended. There
// are no services here: generated service code would bring gRPC and net into
// the state machine. The package owns no goroutine and keeps no state.
package command
