package session

import "time"

// Patience is how long Stale surely stays false from now on, as long as no
// session with a shorter TTL comes.
func (h *Host) Patience() time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	patience := h.shortestTTL() / staleFraction
	if len(h.beats) > 0 {
		patience -= h.cfg.Clock() - h.beats[0].sent
	}
	return max(patience, time.Millisecond)
}
