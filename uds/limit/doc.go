// Package limit bounds what one identity may ask of an agent: how often, how
// much at once, and how many identities are remembered. It exists so that one
// user's loop does not keep another user's requests waiting.
//
// It promises that an identity which stays below its rate is never refused for
// rate, however many others there are and whatever they do, as long as there are
// no more than [Config.Identities] at a time; and that it costs a bounded amount
// of memory. It does not know what is asked: which requests are bounded is its
// caller's choice (design section 9: never heartbeats, releases, cancels, ends).
//
// [Turns] are for work that takes much of a processor: few pieces go on at once,
// and identities take turns, so that heartbeats find a processor and one user's
// thousand pieces keep another's waiting for one. Only what may wait takes a turn:
// never what renews, nor what gives up.
//
// It owns no goroutine. A [Limiter], and Turns, may be used from any goroutine; each
// holds one lock for a few map operations.
package limit
