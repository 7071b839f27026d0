package jsonapi

import (
	"net/http"

	api "github.com/raftlock/raftlock/api/raftlock/v1"
)

// healthBody answers /healthz and /readyz.
type healthBody struct {
	Status string `json:"status"`
	Reason string `json:"reason,omitempty"`
	// Behind is how many entries of the log a voter lacks that catches up.
	Behind uint64 `json:"behind,omitempty"`
}

func (h *Handler) alive(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, healthBody{Status: "alive"})
}

func (h *Handler) ready(w http.ResponseWriter, _ *http.Request) {
	if reach := h.c.Reach(); reach != api.Reason_REASON_OK {
		answer(w, http.StatusServiceUnavailable, healthBody{Status: "not ready", Reason: reasonName(reach)})
		return
	}
	if behind := h.c.Behind(); behind > 0 {
		answer(w, http.StatusServiceUnavailable, healthBody{Status: "catching up", Behind: behind})
		return
	}
	answer(w, http.StatusOK, healthBody{Status: "ready"})
}

func (h *Handler) info(w http.ResponseWriter, r *http.Request) {
	st, err := h.c.API.Status(r.Context(), &api.StatusRequest{})
	if err != nil {
		refuse(w, err)
		return
	}
	answer(w, http.StatusOK, infoOf(st))
}

// clusterInfo is /cluster/info; its field names are fixed (design section 11).
type clusterInfo struct {
	ClusterID  string     `json:"cluster_id"`
	LeaderID   string     `json:"leader_id"`
	Leader     string     `json:"leader"`
	Term       uint64     `json:"term"`
	QuorumSize uint32     `json:"quorum_size"`
	HasQuorum  bool       `json:"has_quorum"`
	Nodes      []nodeInfo `json:"nodes"`
}

type nodeInfo struct {
	ID      string `json:"id"`
	Name    string `json:"name"`
	Address string `json:"address"`
	// State is leader, voter, standby, forwarder, fresh (of no cluster yet), or
	// unknown while no leader tells.
	State string `json:"state"`
	Alive bool   `json:"alive"`
}

func infoOf(st *api.StatusResponse) clusterInfo {
	out := clusterInfo{
		ClusterID: st.ClusterId, LeaderID: st.LeaderId, Leader: st.LeaderName, Term: st.Term,
		QuorumSize: st.QuorumSize, HasQuorum: st.HasQuorum, Nodes: []nodeInfo{},
	}
	for _, n := range st.Nodes {
		state := roleName(n.Role)
		if n.Leader {
			state = "leader"
		}
		out.Nodes = append(out.Nodes, nodeInfo{ID: n.ServerId, Name: n.Name, Address: n.Address, State: state, Alive: n.Alive})
	}
	return out
}

func roleName(r api.Node_Role) string {
	switch r {
	case api.Node_ROLE_VOTER:
		return "voter"
	case api.Node_ROLE_STANDBY:
		return "standby"
	case api.Node_ROLE_FORWARDER:
		return "forwarder"
	case api.Node_ROLE_FRESH:
		return "fresh"
	}
	return "unknown"
}
