package sim

import (
	"context"
	"errors"
	"fmt"

	"github.com/hashicorp/raft"
	"google.golang.org/protobuf/proto"

	"github.com/raftlock/raftlock/link"
	"github.com/raftlock/raftlock/link/linkpb"
)

// Serve has the host's current incarnation answer at its peer port. Its links
// run on goroutines of the world; World.Close waits for them.
func (h *Host) Serve(handler link.Handler) {
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	h.inc.handler = handler
}

// Network is how the host's current incarnation reaches peer ports.
func (h *Host) Network() link.Network {
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	return &network{w: h.w, inc: h.inc}
}

type network struct {
	w   *World
	inc *incarnation
}

// dial is one attempt, guarded by World.mu.
type dial struct {
	client    *end
	abandoned bool
}

// welcomed is the answer to a hello.
type welcomed struct {
	welcome *linkpb.Welcome
	end     *end
}

// Dial implements link.Network.
func (n *network) Dial(ctx context.Context, addr string, hello *linkpb.Hello) (link.UpConn, *linkpb.Welcome, error) {
	d := &dial{}
	r, err := n.w.exchange(&exchange{
		from: n.inc, addr: addr, kind: "link-up/hello", reply: "link-down/welcome",
		timeout: n.w.Net.DialTimeout, quit: n.inc.ctx.Done(), errQuit: ErrDead, ctx: ctx,
		serve: func(server *incarnation, answer chan<- raft.RPCResponse) bool {
			return n.admit(d, addr, clone(hello), server, answer)
		},
	})
	if err != nil {
		n.abandon(d)
		return nil, nil, fmt.Errorf("link to %s: %w", addr, err)
	}
	w := r.(welcomed)
	if w.end == nil {
		return nil, w.welcome, fmt.Errorf("link to %s: %w: %v", addr, link.ErrRefused, w.welcome.GetRefusal())
	}
	return &conn[*linkpb.Up, *linkpb.Down]{w.end}, w.welcome, nil
}

// admit runs at the target.
func (n *network) admit(d *dial, addr string, hello *linkpb.Hello, server *incarnation, answer chan<- raft.RPCResponse) bool {
	handler := n.w.handlerOf(server)
	if handler == nil {
		return false
	}
	welcome := clone(handler.Admit(clone(hello)))
	if welcome.GetRefusal() != linkpb.Welcome_REFUSAL_UNSPECIFIED {
		answer <- raft.RPCResponse{Response: welcomed{welcome: welcome}}
		return true
	}
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	if server.down || n.w.closed {
		return true // the crash has told the dialler
	}
	up := &end{party: party{name: n.inc.host.Name, host: n.inc.host}, inc: n.inc, kind: "link-up"}
	down := &end{party: party{name: server.host.Name, host: server.host}, inc: server, kind: "link-down"}
	s := n.w.newStream(addr, up, down)
	s.look()
	if d.abandoned {
		up.die(ErrClosed, crashPlan{})
	}
	d.client = up
	n.w.goLocked(func() {
		conn := &conn[*linkpb.Down, *linkpb.Up]{down}
		defer conn.Close()
		handler.Link(hello, clone(welcome), conn)
	})
	answer <- raft.RPCResponse{Response: welcomed{welcome: welcome, end: up}}
	return true
}

// abandon gives up a link that may have been admitted meanwhile.
func (n *network) abandon(d *dial) {
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	d.abandoned = true
	if d.client != nil {
		d.client.die(ErrClosed, crashPlan{})
	}
}

func (w *World) handlerOf(i *incarnation) link.Handler {
	w.mu.Lock()
	defer w.mu.Unlock()
	return i.handler
}

// Ask implements link.Network.
func (n *network) Ask(ctx context.Context, addr string, q *linkpb.Question) (*linkpb.Answer, error) {
	kind := "ask/" + kindOf(q)
	q = clone(q)
	r, err := n.w.exchange(&exchange{
		from: n.inc, addr: addr, kind: kind, reply: kind + "-reply",
		timeout: n.w.Net.BreakAfter, quit: n.inc.ctx.Done(), errQuit: ErrDead, ctx: ctx,
		serve: func(server *incarnation, answer chan<- raft.RPCResponse) bool {
			return n.answer(ctx, q, server, answer)
		},
	})
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", addr, err)
	}
	return r.(*linkpb.Answer), nil
}

// answer runs at the target, on the goroutine of the question's arrival.
func (n *network) answer(asker context.Context, q *linkpb.Question, server *incarnation, answer chan<- raft.RPCResponse) bool {
	handler := n.w.handlerOf(server)
	if handler == nil {
		return false
	}
	ctx, cancel := server.ctx, context.CancelFunc(func() {})
	if deadline, ok := asker.Deadline(); ok {
		ctx, cancel = context.WithDeadline(ctx, deadline)
	}
	defer cancel()
	a, err := handler.Answer(ctx, q)
	if err != nil {
		// Errors lose their identity on a network.
		answer <- raft.RPCResponse{Error: errors.New(err.Error())}
		return true
	}
	answer <- raft.RPCResponse{Response: clone(a)}
	return true
}

// conn is one end of a link.
type conn[S, R proto.Message] struct{ e *end }

// Send implements link.UpConn and link.DownConn. The frames are copied.
func (c *conn[S, R]) Send(frames []S) error {
	copies, kinds := make([]S, len(frames)), make([]string, len(frames))
	for i, f := range frames {
		copies[i], kinds[i] = clone(f), kindOf(f)
	}
	return c.e.send(copies, kinds...)
}

// Recv implements link.UpConn and link.DownConn.
func (c *conn[S, R]) Recv() ([]R, error) {
	batch, err := c.e.recv()
	if err != nil {
		return nil, err
	}
	return batch.([]R), nil
}

// Close implements link.UpConn and link.DownConn.
func (c *conn[S, R]) Close() { c.e.close() }
