package consensus

import (
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/raftlock/raftlock/telemetry/key"
)

// Stream is Raft's half of the peer port.
type Stream interface {
	net.Listener
	// Dial connects to that very server at addr: the far end must refuse if it
	// is another one. Raft itself does not look: a server reached at the address
	// that another one had would be counted for both, and a minority commit.
	Dial(server ServerID, addr string, timeout time.Duration) (net.Conn, error)
}

// TransportOptions are NewTransport's choices; start from
// DefaultTransportOptions.
type TransportOptions struct {
	// Address says where a server is now; false leaves the address that is in
	// Raft's configuration, which is tried in turn with one that fails. It is
	// asked at every message and must not block. Nil: nobody knows better. This
	// is how changed addresses are followed.
	Address func(ServerID) (addr string, ok bool)
	// MaxPool bounds the idle connections kept to each server; default 3.
	MaxPool int
	// Timeout bounds each read and write of one message; default 10 s.
	Timeout time.Duration
	Log     *slog.Logger
}

// DefaultTransportOptions returns the defaults named at the fields. Log must be
// given.
func DefaultTransportOptions() TransportOptions {
	return TransportOptions{MaxPool: 3, Timeout: 10 * time.Second}
}

// Transport is the library's network transport with connections that name the
// server they are meant for.
type Transport struct {
	*raft.NetworkTransport
	address func(ServerID) (string, bool)

	mu     sync.Mutex // guards doubts
	doubts map[raft.ServerID]bool
}

// NewTransport makes the network transport on stream, set up so that no
// pipeline can park a follower for good (hashicorp/raft#612). Its goroutines
// end with Close, which Node.Close calls.
func NewTransport(stream Stream, o TransportOptions) *Transport {
	inner := raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream:          named{stream},
		MaxPool:         o.MaxPool,
		MaxRPCsInFlight: 1,
		Timeout:         o.Timeout,
		Logger:          newHCLog(o.Log.With(key.Component, "raft")),
	})
	return &Transport{NetworkTransport: inner, address: o.Address, doubts: make(map[raft.ServerID]bool)}
}

// named is a Stream as the library knows it: its one address carries both the
// server and where that is, so that pooled connections are a server's too.
type named struct{ Stream }

const nameEnds = "@"

// reach calls the server where it is known to be. A hint that fails is left for
// the address in Raft's configuration next time, and so on in turn: whoever
// gave the hint may be wrong, or of the past.
func (t *Transport) reach(id raft.ServerID, configured raft.ServerAddress, call func(raft.ServerAddress) error) error {
	addr, hinted := string(configured), false
	if t.address != nil {
		if newer, ok := t.address(id); ok && newer != addr {
			hinted = true
			if !t.doubted(id) {
				addr = newer
			}
		}
	}
	err := call(raft.ServerAddress(string(id) + nameEnds + addr))
	if hinted && err != nil {
		t.doubt(id, addr == string(configured))
	}
	return err
}

func (t *Transport) doubted(id raft.ServerID) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.doubts[id]
}

// doubt notes which address failed. There are as many as the cluster has had
// servers.
func (t *Transport) doubt(id raft.ServerID, configured bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if configured {
		delete(t.doubts, id)
	} else {
		t.doubts[id] = true
	}
}

// Dial implements raft.StreamLayer.
func (n named) Dial(to raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	id, addr, _ := strings.Cut(string(to), nameEnds)
	return n.Stream.Dial(ServerID(id), addr, timeout)
}

// The rest are the library's, told where the server is.

func (t *Transport) AppendEntriesPipeline(id raft.ServerID, at raft.ServerAddress) (p raft.AppendPipeline, err error) {
	err = t.reach(id, at, func(to raft.ServerAddress) error {
		p, err = t.NetworkTransport.AppendEntriesPipeline(id, to)
		return err
	})
	return p, err
}

func (t *Transport) AppendEntries(id raft.ServerID, at raft.ServerAddress, q *raft.AppendEntriesRequest, a *raft.AppendEntriesResponse) error {
	return t.reach(id, at, func(to raft.ServerAddress) error { return t.NetworkTransport.AppendEntries(id, to, q, a) })
}

func (t *Transport) RequestVote(id raft.ServerID, at raft.ServerAddress, q *raft.RequestVoteRequest, a *raft.RequestVoteResponse) error {
	return t.reach(id, at, func(to raft.ServerAddress) error { return t.NetworkTransport.RequestVote(id, to, q, a) })
}

func (t *Transport) RequestPreVote(id raft.ServerID, at raft.ServerAddress, q *raft.RequestPreVoteRequest, a *raft.RequestPreVoteResponse) error {
	return t.reach(id, at, func(to raft.ServerAddress) error { return t.NetworkTransport.RequestPreVote(id, to, q, a) })
}

func (t *Transport) TimeoutNow(id raft.ServerID, at raft.ServerAddress, q *raft.TimeoutNowRequest, a *raft.TimeoutNowResponse) error {
	return t.reach(id, at, func(to raft.ServerAddress) error { return t.NetworkTransport.TimeoutNow(id, to, q, a) })
}

func (t *Transport) InstallSnapshot(id raft.ServerID, at raft.ServerAddress, q *raft.InstallSnapshotRequest, a *raft.InstallSnapshotResponse, data io.Reader) error {
	return t.reach(id, at, func(to raft.ServerAddress) error { return t.NetworkTransport.InstallSnapshot(id, to, q, a, data) })
}
