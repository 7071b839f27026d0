package sim

import (
	"bytes"
	"io"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/raftlock/raftlock/internal/mutant"
)

// consumerMax is how many RPCs may wait for a raft node's main loop before
// arrivals wait too.
const consumerMax = 64

// transport is a raft.Transport for one incarnation.
type transport struct {
	w    *World
	inc  *incarnation
	addr string
	as   raft.ServerID // whose messages it takes; empty: anybody's
	find func(string) (string, bool)
	cons chan raft.RPC
	dead chan struct{}

	once      sync.Once
	mu        sync.Mutex // guards heartbeat
	heartbeat func(raft.RPC)
}

// Transport is a raft transport for the host's current incarnation, at the
// address that the host has now. It replaces the one handed out before. It
// offers WithPreVote and WithClose, calls the heartbeat handler, where one is
// set, on a goroutine of its own beside raft's main loop, as
// raft.NetworkTransport does, and has no pipeline.
func (h *Host) Transport() raft.Transport { return h.TransportAs("") }

// TransportAs is Transport for one server: what reaches this address and is
// meant for another server is refused, as the real port does.
func (h *Host) TransportAs(server raft.ServerID) raft.Transport { return h.TransportVia(server, nil) }

// TransportVia is TransportAs that asks find where a server is now, at every
// message; false leaves the address that Raft has. Nil: it is not asked.
func (h *Host) TransportVia(server raft.ServerID, find func(string) (string, bool)) raft.Transport {
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	t := &transport{
		w: h.w, inc: h.inc, addr: h.addr, as: server, find: find,
		cons: make(chan raft.RPC, consumerMax), dead: make(chan struct{}),
	}
	if h.inc.transport != nil {
		h.inc.transport.shut()
	}
	h.inc.transport = t
	if h.inc.down {
		t.shut()
	}
	return t
}

// shut kills the transport and drops what raft has not taken yet: a ghost
// should see as little as possible. The caller holds World.mu.
func (t *transport) shut() {
	t.once.Do(func() { close(t.dead) })
	for {
		select {
		case <-t.cons:
		default:
			return
		}
	}
}

// Close implements raft.WithClose.
func (t *transport) Close() error {
	t.w.mu.Lock()
	defer t.w.mu.Unlock()
	t.shut()
	return nil
}

func (t *transport) Consumer() <-chan raft.RPC     { return t.cons }
func (t *transport) LocalAddr() raft.ServerAddress { return raft.ServerAddress(t.addr) }

func (t *transport) EncodePeer(_ raft.ServerID, a raft.ServerAddress) []byte { return []byte(a) }
func (t *transport) DecodePeer(b []byte) raft.ServerAddress                  { return raft.ServerAddress(b) }

func (t *transport) SetHeartbeatHandler(f func(raft.RPC)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.heartbeat = f
}

func (t *transport) AppendEntriesPipeline(raft.ServerID, raft.ServerAddress) (raft.AppendPipeline, error) {
	return nil, raft.ErrPipelineReplicationNotSupported
}

func (t *transport) AppendEntries(id raft.ServerID, a raft.ServerAddress, q *raft.AppendEntriesRequest, r *raft.AppendEntriesResponse) error {
	c := *q
	c.Entries = make([]*raft.Log, len(q.Entries))
	for i, l := range q.Entries {
		entry := *l
		c.Entries[i] = &entry
	}
	m := rpc{to: id, kind: "raft/AppendEntries", command: &c}
	if isHeartbeat(q) {
		m.kind, m.heartbeat = "raft/Heartbeat", true
	}
	return ask(t, a, m, r)
}

func (t *transport) RequestVote(id raft.ServerID, a raft.ServerAddress, q *raft.RequestVoteRequest, r *raft.RequestVoteResponse) error {
	c := *q
	return ask(t, a, rpc{to: id, kind: "raft/RequestVote", command: &c}, r)
}

func (t *transport) RequestPreVote(id raft.ServerID, a raft.ServerAddress, q *raft.RequestPreVoteRequest, r *raft.RequestPreVoteResponse) error {
	c := *q
	return ask(t, a, rpc{to: id, kind: "raft/RequestPreVote", command: &c}, r)
}

func (t *transport) TimeoutNow(id raft.ServerID, a raft.ServerAddress, q *raft.TimeoutNowRequest, r *raft.TimeoutNowResponse) error {
	c := *q
	return ask(t, a, rpc{to: id, kind: "raft/TimeoutNow", command: &c}, r)
}

func (t *transport) InstallSnapshot(id raft.ServerID, a raft.ServerAddress, q *raft.InstallSnapshotRequest, r *raft.InstallSnapshotResponse, data io.Reader) error {
	content, err := io.ReadAll(data)
	if err != nil {
		return err
	}
	c := *q
	return ask(t, a, rpc{to: id, kind: "raft/InstallSnapshot", command: &c, data: content, slow: 10}, r)
}

// isHeartbeat is NetworkTransport's own test.
func isHeartbeat(q *raft.AppendEntriesRequest) bool {
	return q.Term != 0 && q.PrevLogEntry == 0 && q.PrevLogTerm == 0 && len(q.Entries) == 0 && q.LeaderCommitIndex == 0
}

// rpc is one request.
type rpc struct {
	to        raft.ServerID
	kind      string
	command   any
	data      []byte
	heartbeat bool
	slow      time.Duration // times the ordinary time-out; 0: once
}

// ask makes one exchange and fills r with a copy of the response.
func ask[R any](t *transport, addr raft.ServerAddress, m rpc, r *R) error {
	if t.find != nil {
		if now, ok := t.find(string(m.to)); ok {
			addr = raft.ServerAddress(now)
		}
	}
	response, err := t.w.exchange(&exchange{
		from: t.inc, addr: string(addr), kind: m.kind, reply: m.kind + "-reply", heartbeat: m.heartbeat,
		timeout: t.w.Net.RPCTimeout * max(m.slow, 1), quit: t.dead, errQuit: ErrDead,
		serve: func(server *incarnation, answer chan<- raft.RPCResponse) bool {
			return t.w.serveRPC(server, m, answer)
		},
	})
	if err != nil {
		return err
	}
	*r = *(response.(*R))
	return nil
}

// serveRPC hands the request to the raft node of an incarnation, on the
// goroutine of its arrival.
func (w *World) serveRPC(server *incarnation, m rpc, answer chan<- raft.RPCResponse) bool {
	w.mu.Lock()
	t := server.transport
	w.mu.Unlock()
	if t == nil || t.as != "" && m.to != t.as && !mutant.On("sim-raft-server") {
		return false
	}
	r := raft.RPC{Command: m.command, RespChan: answer}
	if m.data != nil {
		r.Reader = bytes.NewReader(m.data)
	}
	t.mu.Lock()
	beat := t.heartbeat
	t.mu.Unlock()
	if m.heartbeat && beat != nil {
		beat(r)
		return true
	}
	if t.offer(r) {
		return true
	}
	select { // the main loop is busy and its channel full
	case t.cons <- r:
		return true
	case <-t.dead:
		return false
	}
}

// offer puts a request into the consumer's channel unless the transport is dead
// or the channel full. Under the lock, so that shut drains all there ever is.
func (t *transport) offer(r raft.RPC) bool {
	t.w.mu.Lock()
	defer t.w.mu.Unlock()
	select {
	case <-t.dead:
		return false
	default:
	}
	select {
	case t.cons <- r:
		return true
	default:
		return false
	}
}
