package sim

import (
	"context"
	"time"

	"github.com/hashicorp/raft"
)

// parcel is one datagram in flight. Where from and to are one host it goes
// over its loopback.
type parcel struct {
	w        *World
	from, to *Host
	// heartbeat: HeartbeatsOnly lets it pass.
	heartbeat bool
	// deliver runs on a goroutine of its own when it arrives, without locks.
	deliver func()
}

// post sends it. It may never arrive, and nobody is told.
func (w *World) post(p *parcel) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.postLocked(p)
}

func (w *World) postLocked(p *parcel) {
	p.w = w
	delay, lost := w.Net.plan(p.from, p.to)
	if lost || w.closed || w.Net.blocked(p.from, p.to, p.heartbeat) {
		return
	}
	time.AfterFunc(delay, p.arrive)
}

func (p *parcel) arrive() {
	w := p.w
	w.mu.Lock()
	switch {
	case w.closed:
		w.mu.Unlock()
		return
	case p.from.gate != nil || p.to.gate != nil:
		w.held = append(w.held, p)
		w.mu.Unlock()
		return
	case w.Net.blocked(p.from, p.to, p.heartbeat):
		w.mu.Unlock()
		return
	case p.from != p.to && p.to.holdUntil > w.Now():
		time.AfterFunc(w.heldFor(p.from, p.to), p.arrive)
		w.mu.Unlock()
		return
	}
	w.busy++
	w.mu.Unlock()
	p.deliver()
	w.mu.Lock()
	w.busy--
	w.mu.Unlock()
}

// heldSpread is how far apart messages arrive that HoldTo held.
const heldSpread = 80 * time.Millisecond

// heldFor is how long a message to a held host still takes. The caller holds
// mu.
func (w *World) heldFor(from, to *Host) time.Duration {
	r := w.Net.rng[from.index][to.index]
	return to.holdUntil - w.Now() + time.Duration(r.Int64N(int64(heldSpread)))
}

// call is one exchange: a question in one datagram, its answer in another.
type call struct {
	// answer is what the far end answers into.
	answer chan raft.RPCResponse
	// done is what comes back: the answer, or that there will be none.
	done chan raft.RPCResponse
	from *Host

	// Guarded by World.mu: who serves it. While that lives and has not
	// answered, the call is in its calls.
	server *incarnation
}

// exchange describes a call.
type exchange struct {
	from *incarnation
	addr string
	// kind names the question, reply the answer.
	kind, reply string
	// heartbeat: HeartbeatsOnly lets the question pass.
	heartbeat bool
	timeout   time.Duration
	// quit ends the caller's waiting, with errQuit.
	quit    <-chan struct{}
	errQuit error
	// ctx, where there is one, too.
	ctx context.Context
	// serve takes the question at the far end, on a goroutine of its own. It
	// answers into the channel (of capacity 1), or returns false to refuse.
	serve func(server *incarnation, answer chan<- raft.RPCResponse) bool
}

func (x *exchange) ended() <-chan struct{} {
	if x.ctx == nil {
		return nil
	}
	return x.ctx.Done()
}

// exchange asks and waits. It returns when the caller's incarnation dies, when
// the time is over, or with the answer.
func (w *World) exchange(x *exchange) (any, error) {
	to := w.Resolve(x.addr)
	here, there := party{name: x.from.host.Name, host: x.from.host}, party{name: x.addr}
	if to != nil {
		there = party{name: to.Name, host: to}
	}
	select {
	case <-x.quit:
		return nil, x.errQuit
	default:
	}
	v := w.emit(here, there, x.kind)
	c := &call{answer: make(chan raft.RPCResponse, 1), done: make(chan raft.RPCResponse, 2), from: here.host}
	switch {
	case v.lost:
		return nil, ErrBroken
	case to == nil:
		time.AfterFunc(noRoute, func() { c.fail(ErrConnectionRefused) })
	default:
		w.post(&parcel{from: here.host, to: to, heartbeat: x.heartbeat, deliver: func() { w.serve(x, c, to) }})
	}
	if v.after != nil {
		v.after()
	}
	defer w.forget(c)
	return w.await(x, c, here, there)
}

// noRoute is how long it takes to learn that nobody has an address. Not zero:
// who tries again at once would stop time.
const noRoute = time.Millisecond

func (w *World) await(x *exchange, c *call, here, there party) (any, error) {
	deadline := time.NewTimer(x.timeout)
	defer deadline.Stop()
	answer := c.answer
	for {
		select {
		case r := <-answer:
			answer = nil
			if !w.answered(c) {
				continue // a ghost answered
			}
			v := w.emit(there, here, x.reply)
			if v.lost {
				return nil, ErrBroken
			}
			w.post(&parcel{from: there.host, to: here.host, deliver: func() { c.finish(r) }})
			if v.after != nil {
				v.after()
			}
		case r := <-c.done:
			return r.Response, r.Error
		case <-deadline.C:
			return nil, ErrTimeout
		case <-x.quit:
			return nil, x.errQuit
		case <-x.ended():
			return nil, x.ctx.Err()
		}
	}
}

// serve hands the question to whoever lives at the far end.
func (w *World) serve(x *exchange, c *call, to *Host) {
	w.mu.Lock()
	server := to.inc
	up, silent := !server.down, to.silent
	if up {
		c.server = server
		server.calls[c] = struct{}{}
	}
	w.mu.Unlock()
	if up && x.serve(server, c.answer) || silent {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(server.calls, c)
	w.reset(to, c, ErrConnectionRefused)
}

// reset sends word that there will be no answer. The caller holds mu.
func (w *World) reset(from *Host, c *call, err error) {
	w.postLocked(&parcel{from: from, to: c.from, deliver: func() { c.fail(err) }})
}

func (c *call) fail(err error) { c.finish(raft.RPCResponse{Error: err}) }

// finish ends the exchange, if nothing else did.
func (c *call) finish(r raft.RPCResponse) {
	select {
	case c.done <- r:
	default:
	}
}

// answered takes the call off its server, and reports whether that lives: what
// a ghost answers is void.
func (w *World) answered(c *call) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if c.server == nil || c.server.down {
		return false
	}
	delete(c.server.calls, c)
	return true
}

func (w *World) forget(c *call) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if c.server != nil {
		delete(c.server.calls, c)
	}
}

// resetCalls tells those who wait for the incarnation's answers, a little
// later and not across a cut. The caller holds mu.
func (i *incarnation) resetCalls(plan crashPlan) {
	if !plan.silent {
		for c := range i.calls {
			i.host.w.reset(i.host, c, ErrBroken)
		}
	}
	clear(i.calls)
}
