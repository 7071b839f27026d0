// Package link is the peer port: how agents speak to each other. Every agent
// keeps one link to the leader, a bidirectional stream of frames in batches,
// and asks others single questions (which term is yours, promise yourself to
// this list). The port is shared with Raft, whose connections open with a
// preamble.
//
// The interfaces in link.go are what the rest of the tree sees; Client and
// Serve are gRPC behind them. A simulation may put something else there.
//
// # What it promises
//
//   - Frames of one link and one direction arrive in the order of their Sends,
//     each at most once, or the link ends.
//   - What is received was looked at: no batch above its bounds, no frame
//     without content, no session id that is not 16 bytes. An invalid frame
//     ends the link, and the Recv that met it says why; the sender of one up
//     learns it too.
//   - A peer that vanished without a word is noticed within 15 s, and its Recv,
//     Send and Ask return. Ask returns with its context in any case.
//   - An address that came back is reachable again within a second.
//   - Close makes everything blocked return.
//
// # What it does not promise
//
// That a frame was delivered because Send returned; the answer says so. That an
// answer comes from the agent that was meant: addresses are reused, so whoever
// asks compares the ids in it. Anything about who may connect, beyond what the
// transport credentials check. Nothing here knows what a frame means.
//
// # Goroutines
//
// Serve and Mux.Run return after all of theirs have, calls of Handler among
// them. A Client starts none but gRPC's own, which end with Close. Each link
// served costs two at the leader while it lasts, besides gRPC's.
package link
