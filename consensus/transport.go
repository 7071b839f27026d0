package consensus

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/hashicorp/raft"
)

// TransportOptions are NewTransport's choices; start from
// DefaultTransportOptions.
type TransportOptions struct {
	// Address says where a server is now; false leaves the address that is in
	// Raft's configuration. It is asked at every dial and must not block. Nil:
	// nobody knows better. This is how changed addresses are followed.
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

// NewTransport returns the library's network transport on stream, set up so
// that no pipeline can park a follower for good (hashicorp/raft#612). Its
// goroutines end with Close, which Node.Close calls.
func NewTransport(stream raft.StreamLayer, o TransportOptions) *raft.NetworkTransport {
	config := &raft.NetworkTransportConfig{
		Stream:          stream,
		MaxPool:         o.MaxPool,
		MaxRPCsInFlight: 1,
		Timeout:         o.Timeout,
		Logger:          newHCLog(o.Log),
	}
	if o.Address != nil {
		config.ServerAddressProvider = addresses(o.Address)
	}
	return raft.NewNetworkTransportWithConfig(config)
}

type addresses func(ServerID) (string, bool)

// ServerAddr is asked by the library at each dial; after an error it takes the
// configured address.
func (f addresses) ServerAddr(id raft.ServerID) (raft.ServerAddress, error) {
	addr, ok := f(id)
	if !ok {
		return "", fmt.Errorf("no newer address of server %s is known", id)
	}
	return raft.ServerAddress(addr), nil
}

// preVoting is what a node needs of a transport.
type preVoting interface {
	raft.Transport
	raft.WithPreVote
}

// slowPath is a transport whose heartbeats take the way of all other messages.
//
// The library's fast path answers heartbeats beside raft's main loop, and may
// raise the term there while that loop is about to append: a deposed leader
// then stores a client's entry under its successor's term, and state machines
// diverge (hashicorp/raft#695, open). Nothing else may call appendEntries, so
// the handler is never handed on.
//
// Pipelining is refused too, whatever the transport: it can stop replication to
// a follower for good (hashicorp/raft#612, open) and buys nothing with one
// round in flight.
//
// TimeoutNow, the last step of a leadership transfer, is bounded: raft refuses
// every entry until it returns, and a host that hangs would hold it up for the
// transport's own time-out.
type slowPath struct {
	preVoting
	// bound is TimeoutNow's; 0: the inner transport's. spawn runs it on a
	// goroutine that is waited for.
	bound time.Duration
	spawn func(func()) bool
}

func (slowPath) SetHeartbeatHandler(func(raft.RPC)) {}

func (slowPath) AppendEntriesPipeline(raft.ServerID, raft.ServerAddress) (raft.AppendPipeline, error) {
	return nil, raft.ErrPipelineReplicationNotSupported
}

// TimeoutNow that arrives after its bound makes its target stand all the same,
// which is safe.
func (t slowPath) TimeoutNow(id raft.ServerID, to raft.ServerAddress, q *raft.TimeoutNowRequest, a *raft.TimeoutNowResponse) error {
	if t.bound == 0 {
		return t.preVoting.TimeoutNow(id, to, q, a)
	}
	type answer struct {
		raft.TimeoutNowResponse
		err error
	}
	answers := make(chan answer, 1)
	if !t.spawn(func() {
		var got answer
		got.err = t.preVoting.TimeoutNow(id, to, q, &got.TimeoutNowResponse)
		answers <- got
	}) {
		return ErrClosed
	}
	timer := time.NewTimer(t.bound)
	defer timer.Stop()
	select {
	case got := <-answers:
		*a = got.TimeoutNowResponse
		return got.err
	case <-timer.C:
		return fmt.Errorf("server %s did not take leadership within %v", id, t.bound)
	}
}

// Close closes the inner transport if it can be closed; raft looks for it.
func (t slowPath) Close() error {
	if c, ok := t.preVoting.(raft.WithClose); ok {
		return c.Close()
	}
	return nil
}
