package session

import (
	"fmt"
	"time"
)

// mayAsk reports whether an identity may open a session or acquire now. Nothing
// else on a stream is ever refused for load.
func (h *Host) mayAsk(identity string) (later time.Duration, ok bool) {
	if h.cfg.Admit == nil {
		return 0, true
	}
	return h.cfg.Admit(identity)
}

// TooMuch is what is said to who asks for too much: of what, and when to come
// back.
func TooMuch(what string, later time.Duration) string {
	return fmt.Sprintf("too many %s at once; come back in %v; ask less often, or raise the agent's bounds (--limit-rate, --limit-burst, --limit-concurrent)",
		what, later.Round(time.Millisecond))
}

// Whose is the name of an identity in the log: with the host's agent, because
// the users of two hosts are two, and so are their bounds (I7).
func (h *Host) Whose(identity string) string { return identity + "@" + h.cfg.Agent }

// uncount takes a session out of its identity's count.
func (h *Host) uncount(identity string) {
	if h.identities[identity]--; h.identities[identity] <= 0 {
		delete(h.identities, identity)
	}
}
