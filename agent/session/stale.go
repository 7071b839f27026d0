package session

import "time"

// idleStaleTTL takes the place of a TTL where no session is attached: rare
// heartbeats are cheap, but who comes first should not wait for a hung link.
const idleStaleTTL = 3 * time.Second

// staleMost bounds how long an agent asks nobody else, however long the TTLs
// are: to ask costs little, and a leader that was cut off says nothing.
const staleMost = time.Second

// staleTTL is the TTL whose thirds Stale and the others count in. The caller
// holds mu.
func (h *Host) staleTTL() time.Duration {
	if len(h.sessions) == 0 {
		return idleStaleTTL
	}
	return h.shortestTTL()
}

// staleAfter is how long unanswered is stale. The caller holds mu.
func (h *Host) staleAfter() time.Duration { return min(h.staleTTL()/staleFraction, staleMost) }

// Stale reports that the leader has answered no heartbeat for so long, though
// one was sent, that another one may have to be looked for. Answers that take
// long but come are no reason: a new link would throw away those on their way.
func (h *Host) Stale() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.beats) > 0 && h.unanswered() > h.staleAfter()
}

// Thirds is for how many thirds of the shortest TTL the leader has answered
// nothing: whether to link anew to the same one.
func (h *Host) Thirds() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.beats) == 0 {
		return 0
	}
	return int(h.unanswered() / max(h.staleTTL()/staleFraction, 1))
}

// Patience is how long Stale surely stays false from now on, as long as no
// session with a shorter TTL comes.
func (h *Host) Patience() time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	patience := h.staleAfter()
	if len(h.beats) > 0 {
		patience -= h.unanswered()
	}
	return max(patience, time.Millisecond)
}

// unanswered is for how long the oldest heartbeat in flight has been waiting
// for any answer. The caller holds mu.
func (h *Host) unanswered() time.Duration {
	return h.cfg.Clock() - max(h.beats[0].sent, h.heard)
}

// Heard reports that a heartbeat was answered on the current link.
func (h *Host) Heard() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.heard != 0
}
