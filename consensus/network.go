package consensus

import (
	"io"
	"log/slog"
	"net"
	"strings"
	"time"

	"github.com/hashicorp/raft"
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
	// Raft's configuration. It is asked at every message and must not block.
	// Nil: nobody knows better. This is how changed addresses are followed.
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
		Logger:          newHCLog(o.Log),
	})
	return &Transport{NetworkTransport: inner, address: o.Address}
}

// named is a Stream as the library knows it: its one address carries both the
// server and where that is, so that pooled connections are a server's too.
type named struct{ Stream }

const nameEnds = "@"

func (t *Transport) to(id raft.ServerID, configured raft.ServerAddress) raft.ServerAddress {
	addr := string(configured)
	if t.address != nil {
		if newer, ok := t.address(id); ok {
			addr = newer
		}
	}
	return raft.ServerAddress(string(id) + nameEnds + addr)
}

// Dial implements raft.StreamLayer.
func (n named) Dial(to raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	id, addr, _ := strings.Cut(string(to), nameEnds)
	return n.Stream.Dial(ServerID(id), addr, timeout)
}

// The rest are the library's, told where the server is.

func (t *Transport) AppendEntriesPipeline(id raft.ServerID, at raft.ServerAddress) (raft.AppendPipeline, error) {
	return t.NetworkTransport.AppendEntriesPipeline(id, t.to(id, at))
}

func (t *Transport) AppendEntries(id raft.ServerID, at raft.ServerAddress, q *raft.AppendEntriesRequest, a *raft.AppendEntriesResponse) error {
	return t.NetworkTransport.AppendEntries(id, t.to(id, at), q, a)
}

func (t *Transport) RequestVote(id raft.ServerID, at raft.ServerAddress, q *raft.RequestVoteRequest, a *raft.RequestVoteResponse) error {
	return t.NetworkTransport.RequestVote(id, t.to(id, at), q, a)
}

func (t *Transport) RequestPreVote(id raft.ServerID, at raft.ServerAddress, q *raft.RequestPreVoteRequest, a *raft.RequestPreVoteResponse) error {
	return t.NetworkTransport.RequestPreVote(id, t.to(id, at), q, a)
}

func (t *Transport) TimeoutNow(id raft.ServerID, at raft.ServerAddress, q *raft.TimeoutNowRequest, a *raft.TimeoutNowResponse) error {
	return t.NetworkTransport.TimeoutNow(id, t.to(id, at), q, a)
}

func (t *Transport) InstallSnapshot(id raft.ServerID, at raft.ServerAddress, q *raft.InstallSnapshotRequest, a *raft.InstallSnapshotResponse, data io.Reader) error {
	return t.NetworkTransport.InstallSnapshot(id, t.to(id, at), q, a, data)
}
