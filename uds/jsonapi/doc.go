// Package jsonapi serves RaftLock's plain requests and reads as JSON over
// HTTP/1.1, for curl and for languages without an SDK (design section 11). It
// translates: what is asked goes to an api.RaftLockServer, what that answers or
// refuses comes back as JSON. No rule about locks is here.
//
//	POST /locks/acquire   {"key","owner","ttl"} and optional "wait", "priority", "metadata", "request_id"
//	POST /locks/renew     {"key","owner"} and optional "ttl", "version"
//	POST /locks/release   {"key","owner"} and optional "version"; a "ttl" is looked at and not used
//	GET  /locks/{key}     ?stale=true
//	GET  /locks           ?prefix= pattern= owner= contested=true metadata.NAME= after= limit= stale=true
//	GET  /cluster/info, /healthz, /readyz, /metrics
//
// # What it promises
//
//   - Names are what was asked for, to the byte: nothing is cleaned, folded or
//     replaced. A lock's name in a path is the rest of the path, percent-decoded
//     once, so "a/b" and "a%2Fb" name one lock, "a//b" another. (curl itself
//     shortens "/../" unless it is told --path-as-is.)
//   - A request is understood as a whole or refused with the field that is wrong
//     and what to do: unknown and repeated fields, wrong types, what follows the
//     object. Absent and zero are different things. Field names are exact.
//   - Every refusal has a reason of api.Reason, what to do next, and whether it
//     may have been applied. One table has the HTTP status of each reason; an
//     unknown outcome is 504, whatever its reason.
//   - Everything is bounded: bodies by 64 KiB, and what the API bounds.
//   - A caller that hangs up ends its request: the context given to the API ends.
//
// A version is a fencing token, a whole number below 2^53, which every JSON
// reader keeps exact. Lengths of time are texts with a unit ("30s"): a bare
// number could be taken for seconds here and milliseconds there. "expires_at" is
// for people; programs renew at a third of the TTL.
//
// # Over TCP
//
// With [Config.TCP] a request must name a loopback host, since a web page can
// give its own name a loopback address; writes are refused unless Config.Writes
// is set, and then must be JSON by their Content-Type and come from no other
// origin, both of which a page cannot feign. Any user of the host can connect
// there: who may use the application socket does not matter.
//
// It owns no goroutine; those of its handlers are net/http's.
package jsonapi
