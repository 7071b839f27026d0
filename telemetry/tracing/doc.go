// Package tracing has what every part that makes spans must have in common: the
// spans' names, their attributes' keys, the outcomes they end with, and how a
// trace context crosses a connection.
//
// The spans of one acquire, across processes:
//
//	raftlock.acquire      SDK: from Lock to its return
//	└ serve               its agent: from arrival to the final answer
//	  ├ forward           until the leader answered, repetitions included
//	  │ └ commit          the leader: from its link to the outcome
//	  │   ├ queue         until its round began
//	  │   ├ append        the leader's own disk
//	  │   ├ replicate     until a majority has it
//	  │   └ apply         the state machine, the whole round
//	  └ wait              in the lock's queue; links to the holder's trace
//
// It promises that nothing is built for a request that nobody records, and that
// a trace context of any length or content is either a valid one or none. It
// does not decide what is recorded: the application's sampling counts, and
// where it traces nothing the agent's own (OTEL_TRACES_SAMPLER).
//
// It knows the API of OpenTelemetry and not its SDK. It owns no goroutine.
package tracing
