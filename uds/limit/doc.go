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
// It owns no goroutine. A [Limiter] may be used from any goroutine; it holds one
// lock for a few map operations.
package limit
