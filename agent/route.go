package agent

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/raftlock/raftlock/link"
	"github.com/raftlock/raftlock/link/linkpb"
)

// Routing: how long a question about the leader and a dial may take, and how
// long to wait between tries, plus as much again at random.
const (
	askTimeout  = 500 * time.Millisecond
	dialTimeout = time.Second
	retryDelay  = 100 * time.Millisecond
	// Asked at once when nobody is known to be a voter.
	askedMax   = 64
	upQueueMax = 1 << 16 // frames waiting to be sent; past it the link breaks
)

// route keeps one link to the leader: finds it, links, hands frames over until
// the link breaks or goes stale, and begins again.
func (a *Agent) route(ctx context.Context) error {
	for ctx.Err() == nil {
		address, _ := a.findLeader(ctx)
		if address != "" {
			a.linked(ctx, address)
		}
		delay := retryDelay + rand.N(retryDelay)
		select {
		case <-ctx.Done():
		case <-time.After(delay):
		}
	}
	return nil
}

// findLeader asks the others who leads and believes the highest term. A leader
// that does not know yet that it was deposed names a lower one.
func (a *Agent) findLeader(ctx context.Context) (address string, term uint64) {
	if a.ClusterID() == "" {
		return "", 0
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	var mu sync.Mutex
	var all sync.WaitGroup
	hear := func(t *linkpb.TermAnswer, from string) {
		mu.Lock()
		defer mu.Unlock()
		switch {
		case !t.GetMember() || t.Term < term:
		case t.Leading:
			address, term = from, t.Term
		case t.Term > term:
			address, term = t.LeaderAddress, t.Term
		}
	}
	for _, to := range a.voters() {
		if to == a.cfg.Address {
			hear(a.term(), to)
			continue
		}
		all.Go(func() {
			r, err := a.cfg.Network.Ask(ctx, to, &linkpb.Question{
				From: a.cfg.Name, Question: &linkpb.Question_Term{Term: &linkpb.Term{}},
			})
			if err == nil && r.ClusterId == a.ClusterID() {
				hear(r.GetTerm(), to)
			}
		})
	}
	all.Wait()
	return address, term
}

// voters are the addresses worth asking: the Raft members where this agent is
// one, else whoever gossip says may be one.
func (a *Agent) voters() []string {
	seen := make(map[string]bool)
	var out []string
	add := func(address string) {
		if address != "" && !seen[address] && len(out) < askedMax {
			seen[address] = true
			out = append(out, address)
		}
	}
	if node := a.Node(); node != nil {
		add(a.cfg.Address)
		if list, err := node.Servers(); err == nil {
			for _, s := range list {
				add(s.Address)
			}
		}
	}
	for _, m := range a.cfg.Gossip.Members() {
		if !m.Forwarder {
			add(m.Address)
		}
	}
	return out
}

// linked runs one link to the agent at address.
func (a *Agent) linked(ctx context.Context, address string) {
	a.mu.Lock()
	a.linkNo++
	hello := &linkpb.Hello{
		VersionMin: linkVersion, VersionMax: linkVersion, ClusterId: a.decision.ClusterID,
		Agent: a.cfg.Name, Incarnation: a.cfg.Incarnation, Link: a.linkNo,
	}
	a.mu.Unlock()
	dial, cancel := context.WithTimeout(ctx, dialTimeout)
	conn, welcome, err := a.cfg.Network.Dial(dial, address, hello)
	cancel()
	if err != nil {
		if !errors.Is(err, link.ErrRefused) {
			a.cfg.Log.Debug("link", "to", address, "error", err)
		}
		return
	}
	a.cfg.Log.Info("linked", "leader", welcome.ServerId, "term", welcome.Term)
	up := newUplink(conn)
	var both sync.WaitGroup
	both.Go(up.write)
	both.Go(func() { a.watch(ctx, up) })
	a.sessions.LinkUp(up)
	for {
		frames, err := conn.Recv()
		if err != nil {
			break
		}
		a.sessions.Receive(frames)
	}
	a.sessions.LinkDown()
	up.close()
	both.Wait()
}

// watch closes the link when ctx ends, or when heartbeats go unanswered.
func (a *Agent) watch(ctx context.Context, up *uplink) {
	check := time.NewTicker(retryDelay)
	defer check.Stop()
	for {
		select {
		case <-ctx.Done():
			up.close()
			return
		case <-up.done:
			return
		case <-check.C:
			if a.sessions.Stale() {
				a.cfg.Log.Info("heartbeats unanswered; looking for the leader")
				up.close()
				return
			}
		}
	}
}

// uplink is the agent's end of its link: a queue before the connection, so
// that the sessions never wait for it.
type uplink struct {
	conn  link.UpConn
	mu    sync.Mutex // guards queue and dead
	queue []*link.Up
	dead  bool
	ready chan struct{} // capacity 1
	done  chan struct{}
}

func newUplink(conn link.UpConn) *uplink {
	return &uplink{conn: conn, ready: make(chan struct{}, 1), done: make(chan struct{})}
}

// Send implements session.Uplink.
func (u *uplink) Send(frames ...*link.Up) bool {
	u.mu.Lock()
	ok := !u.dead && len(u.queue) < upQueueMax
	if ok {
		u.queue = append(u.queue, frames...)
	} else if !u.dead {
		u.endLocked()
	}
	u.mu.Unlock()
	signal(u.ready)
	return ok
}

func (u *uplink) endLocked() {
	u.dead = true
	close(u.done)
}

func (u *uplink) close() {
	u.mu.Lock()
	if !u.dead {
		u.endLocked()
	}
	u.mu.Unlock()
	u.conn.Close()
}

func (u *uplink) write() {
	defer u.conn.Close()
	for {
		select {
		case <-u.ready:
		case <-u.done:
			return
		}
		u.mu.Lock()
		batch := u.queue
		u.queue = nil
		u.mu.Unlock()
		if len(batch) > 0 && u.conn.Send(batch) != nil {
			return
		}
	}
}
