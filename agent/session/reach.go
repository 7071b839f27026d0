package session

import api "github.com/raftlock/raftlock/api/raftlock/v1"

// Count counts the sessions attached here, and what they hold and wait for as
// far as this agent knows.
func (h *Host) Count() (sessions, holds, waits int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range h.sessions {
		for _, e := range s.entries {
			switch {
			case e.lost:
			case e.held:
				holds++
			case e.acquire && e.answered:
				waits++
			}
		}
	}
	return len(h.sessions), holds, waits
}

// Reach is what SetReach was told last; NO_LEADER before.
func (h *Host) Reach() api.Reason {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.reach
}

// SetReach takes in whether a leader is reached: OK, NO_LEADER or NO_QUORUM.
func (h *Host) SetReach(r api.Reason) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.reach = r
}
