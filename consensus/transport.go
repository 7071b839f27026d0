package consensus

import (
	"fmt"
	"time"

	"github.com/hashicorp/raft"
)

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
