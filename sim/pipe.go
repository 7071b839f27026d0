package sim

import "google.golang.org/protobuf/proto"

// Pipe is one end of a local stream of messages between two parties of a host,
// such as an application's session stream to its agent. Messages arrive in
// order, as copies. It is safe for concurrent use, with one receiver.
type Pipe[S, R proto.Message] struct{ e *end }

// NewPipe is NewPipeOf an application called "app".
func NewPipe[Req, Resp proto.Message](h *Host, label string) (client *Pipe[Req, Resp], server *Pipe[Resp, Req]) {
	return NewPipeOf[Req, Resp](h, label, "app")
}

// NewPipeOf connects an application on the host with the host's current
// incarnation. label begins the frames' kinds: label/... towards the agent,
// label-down/... back; in frames the application is "app@host". A crash breaks
// the pipe, and the application's end can still read what had arrived; a pause
// holds it. On a host that is down it is broken from the start.
func NewPipeOf[Req, Resp proto.Message](h *Host, label, app string) (client *Pipe[Req, Resp], server *Pipe[Resp, Req]) {
	a := &end{party: party{name: app + "@" + h.Name, host: h}, kind: label}
	a.party.app = a
	w := h.w
	w.mu.Lock()
	defer w.mu.Unlock()
	b := &end{party: party{name: h.Name, host: h}, kind: label + "-down", inc: h.inc}
	w.newStream("", a, b).look()
	return &Pipe[Req, Resp]{a}, &Pipe[Resp, Req]{b}
}

// Send puts one message on its way and does not wait. After an error (ErrDead,
// ErrBroken, ErrOverflow, ErrClosed) the pipe is dead.
func (p *Pipe[S, R]) Send(m S) error { return p.e.send(clone(m), kindOf(m)) }

// Recv waits for one message. What arrived before the pipe broke is read
// first, except by an end that was closed or whose side died.
func (p *Pipe[S, R]) Recv() (R, error) {
	m, err := p.e.recv()
	if err != nil {
		var none R
		return none, err
	}
	return m.(R), nil
}

// Close ends the pipe: here at once, at the far end after what was sent. Safe
// to repeat.
func (p *Pipe[S, R]) Close() { p.e.close() }
