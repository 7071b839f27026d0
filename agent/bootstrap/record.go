package bootstrap

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/raftlock/raftlock/link/linkpb"
)

// recordKey is where the record is kept in the store.
const recordKey = "bootstrap"

// recordVersion is raised with each change that an older agent would misread.
const recordVersion = 1

// forgottenMax bounds how many forgotten promises are remembered.
const forgottenMax = 8

// record is all that lasts. It is saved whole, so that every step is one write:
// there is no crash between a list and its founder's own promise to it.
type record struct {
	Version int `json:"version"`
	// ServerID whose record it is: a guard against a half-copied directory.
	ServerID string `json:"server_id"`
	// Cluster this agent belongs to. Never cleared: who ever belonged to one is
	// never eligible again.
	Cluster string `json:"cluster,omitempty"`
	// Listed: it belongs as one of the first list, so it runs Raft.
	Listed bool `json:"listed,omitempty"`
	// Own is the one list that this agent stands with as founder, or, when its
	// id is Cluster, completed. Any other list it ever made is abandoned.
	Own *list `json:"own,omitempty"`
	// Founded: this founder's Raft holds the list durably.
	Founded bool `json:"founded,omitempty"`
	// Told: every other of the list has acknowledged the start.
	Told bool `json:"told,omitempty"`
	// Promise is the one list that this agent is bound to, its own included.
	Promise *list `json:"promise,omitempty"`
	// Forgotten promises, by the operator's word: should the list turn out to be
	// complete while this agent is free, it still starts Raft for it.
	Forgotten []string `json:"forgotten,omitempty"`
}

// list is what a founder stands with.
type list struct {
	ClusterID string `json:"cluster_id"`
	Founder   string `json:"founder"`
	Members   []peer `json:"members"`
}

// peer is one agent of a list.
type peer struct {
	Name     string `json:"name"`
	ServerID string `json:"server_id"`
	Address  string `json:"address"`
}

func decodeRecord(data []byte, serverID string) (record, error) {
	rec := record{Version: recordVersion, ServerID: serverID}
	if data == nil {
		return rec, nil
	}
	rec = record{}
	if err := json.Unmarshal(data, &rec); err != nil {
		return record{}, fmt.Errorf("%w: %w", ErrRecord, err)
	}
	if rec.Version != recordVersion {
		return record{}, fmt.Errorf("%w: version %d, this agent knows %d", ErrRecord, rec.Version, recordVersion)
	}
	if rec.ServerID != serverID {
		return record{}, fmt.Errorf("%w: written by server %s, this is %s", ErrRecord, rec.ServerID, serverID)
	}
	return rec, nil
}

// standing returns the list this agent stands with, not yet complete, or nil.
func (r *record) standing() *list {
	if r.Cluster != "" {
		return nil
	}
	return r.Own
}

// founder reports whether this agent founded the cluster it belongs to.
func (r *record) founder() bool { return r.Own != nil && r.Own.ClusterID == r.Cluster }

// public is the cluster id that others may know of: a founder's cluster exists
// when its Raft holds the list.
func (r *record) public() string {
	if r.founder() && !r.Founded {
		return ""
	}
	return r.Cluster
}

// promisedTo reports whether the agent is bound to the list of this id.
func (r *record) promisedTo(id string) bool { return r.Promise != nil && r.Promise.ClusterID == id }

// mayStart reports whether the agent may start Raft for a completed list: it is
// bound to it, or was until the operator said to forget it and is free.
func (r *record) mayStart(id string) bool {
	return r.promisedTo(id) || r.Promise == nil && slices.Contains(r.Forgotten, id)
}

// byName finds a member; nil if there is none.
func (l *list) byName(name string) *peer {
	for i := range l.Members {
		if l.Members[i].Name == name {
			return &l.Members[i]
		}
	}
	return nil
}

// without returns the members but for one.
func (l *list) without(serverID string) []peer {
	return slices.DeleteFunc(slices.Clone(l.Members), func(p peer) bool { return p.ServerID == serverID })
}

func (l *list) message() *linkpb.FoundingList {
	m := &linkpb.FoundingList{ClusterId: l.ClusterID, Founder: l.Founder}
	for _, p := range l.Members {
		m.Members = append(m.Members, &linkpb.FoundingMember{Name: p.Name, ServerId: p.ServerID, Address: p.Address})
	}
	return m
}

// readList judges a list that came from a peer. It returns nil if it is not one
// of n different agents with its founder among them.
func readList(m *linkpb.FoundingList, n int) *list {
	if !fits(m.GetClusterId(), nameBytesMax) || len(m.GetMembers()) != n {
		return nil
	}
	l := &list{ClusterID: m.GetClusterId(), Founder: m.GetFounder()}
	names, servers := make(map[string]bool, n), make(map[string]bool, n)
	for _, f := range m.GetMembers() {
		if !fits(f.GetName(), nameBytesMax) || !fits(f.GetServerId(), nameBytesMax) || !fits(f.GetAddress(), addressBytesMax) {
			return nil
		}
		names[f.GetName()], servers[f.GetServerId()] = true, true
		l.Members = append(l.Members, peer{Name: f.GetName(), ServerID: f.GetServerId(), Address: f.GetAddress()})
	}
	if len(names) != n || len(servers) != n || !names[l.Founder] {
		return nil
	}
	return l
}
