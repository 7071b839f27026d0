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

// Reach tells whether a leader is reached: OK, NO_LEADER or NO_QUORUM.
func (h *Host) Reach() api.Reason {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.reach
}

// LeaderApplied is how far the leader had applied the log when it answered the
// last heartbeat.
func (h *Host) LeaderApplied() uint64 { return h.leaderApplied.Load() }

// SetReach takes in why no leader is reached: NO_LEADER or NO_QUORUM. That one
// is reached the Host sees by itself, when a heartbeat is answered.
func (h *Host) SetReach(r api.Reason) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.setReach(r)
}

// setReach tells every stream of a change, those too whose open is not answered
// yet.
func (h *Host) setReach(r api.Reason) {
	if r == h.reach {
		return
	}
	h.reach = r
	for _, s := range h.sessions {
		for _, str := range s.streams() {
			str.send(h.reaching())
		}
	}
}

// greet is the first thing on a stream that its first request attached.
func (h *Host) greet(str *stream) {
	if h.reach != api.Reason_REASON_OK {
		str.send(h.reaching())
	}
}

func (h *Host) reaching() *api.SessionResponse {
	return &api.SessionResponse{Response: &api.SessionResponse_Reach{Reach: &api.Reach{Reason: h.reach}}}
}
