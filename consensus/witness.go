package consensus

import (
	"bytes"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/raft"

	"github.com/raftlock/raftlock/telemetry/key"
)

// What raft calls the things that it keeps in its stable store.
const (
	storedTerm      = "CurrentTerm"
	storedVoteTerm  = "LastVoteTerm"
	storedCandidate = "LastVoteCand"
)

// witness tells of terms, votes and members as raft writes them down: that is
// the one place where none of them is missed, since raft acts on none of them
// before. The library's own lines tell of votes in part, and not who was chosen.
type witness struct {
	log *slog.Logger
	// self is this server, and peer what a candidate at an address is written
	// down as.
	self ServerID
	peer func() []byte
	// raft knows who is where; nil until it started.
	raft      atomic.Pointer[raft.Raft]
	elections atomic.Uint64

	mu       sync.Mutex // guards the rest
	term     uint64
	voteTerm uint64
	role     string
}

// Roles of a member.
const (
	roleVoter   = "voter"
	roleStandby = "standby"
	// roleForwarder: it was removed, and forwards what it is asked.
	roleForwarder = "forwarder"
)

// number takes a number that was written down.
func (w *witness) number(k string, value uint64) {
	switch k {
	case storedTerm:
		w.mu.Lock()
		changed := value != w.term
		w.term = value
		w.mu.Unlock()
		if changed {
			w.log.Info("term", key.Term, value)
		}
	case storedVoteTerm: // the candidate follows
		w.mu.Lock()
		w.voteTerm = value
		w.mu.Unlock()
	}
}

// bytes takes bytes that were written down. A vote for this server is an
// election that it stands in.
func (w *witness) bytes(k string, value []byte) {
	if k != storedCandidate {
		return
	}
	w.mu.Lock()
	term := w.voteTerm
	w.mu.Unlock()
	if bytes.Equal(value, w.peer()) {
		w.elections.Add(1)
		w.log.Info("stands in an election", key.Term, term)
		return
	}
	line := w.log.With(key.Term, term, key.Address, string(value))
	if id := w.at(value); id != "" { // who never heard of a cluster knows the address alone
		line = line.With(key.Candidate, id)
	}
	line.Info("voted")
}

// at is the member at an address; empty where none is known to be there.
func (w *witness) at(address []byte) ServerID {
	r := w.raft.Load()
	if r == nil {
		return ""
	}
	f := r.GetConfiguration() // of memory: safe on raft's own goroutines
	if f.Error() != nil {
		return ""
	}
	for _, s := range f.Configuration().Servers {
		if string(s.Address) == string(address) {
			return s.ID
		}
	}
	return ""
}

// entries takes entries that were written down. A configuration counts from
// then on, committed or not; one that is taken back is followed by another.
func (w *witness) entries(logs []*raft.Log) {
	for _, l := range logs {
		if l.Type == raft.LogConfiguration {
			w.members(l)
		}
	}
}

func (w *witness) members(l *raft.Log) {
	var voters, standbys []string
	role := roleForwarder
	for _, s := range raft.DecodeConfiguration(l.Data).Servers {
		is := roleStandby
		if s.Suffrage == raft.Voter {
			is = roleVoter
			voters = append(voters, string(s.ID))
		} else {
			standbys = append(standbys, string(s.ID))
		}
		if s.ID == w.self {
			role = is
		}
	}
	w.log.Info("members", key.Term, l.Term, key.Index, l.Index, "voters", voters, "standbys", standbys)
	w.mu.Lock()
	changed := role != w.role
	w.role = role
	w.mu.Unlock()
	if changed {
		w.log.Info("role", key.Role, role, key.Index, l.Index)
	}
}

// witnessedStable is raft's stable store with a witness.
type witnessedStable struct {
	failStopStable
	*witness
}

func (s witnessedStable) Set(k, value []byte) error {
	err := s.failStopStable.Set(k, value)
	if err == nil {
		s.bytes(string(k), value)
	}
	return err
}

func (s witnessedStable) SetUint64(k []byte, value uint64) error {
	err := s.failStopStable.SetUint64(k, value)
	if err == nil {
		s.number(string(k), value)
	}
	return err
}

// witnessedLogs is raft's log with a witness.
type witnessedLogs struct {
	steppedLogs
	*witness
}

func (s witnessedLogs) StoreLog(l *raft.Log) error {
	err := s.steppedLogs.StoreLog(l)
	if err == nil {
		s.entries([]*raft.Log{l})
	}
	return err
}

func (s witnessedLogs) StoreLogs(logs []*raft.Log) error {
	err := s.steppedLogs.StoreLogs(logs)
	if err == nil {
		s.entries(logs)
	}
	return err
}

// Elections is how many elections this server stood in since it was opened.
func (n *Node) Elections() uint64 { return n.witness.elections.Load() }
