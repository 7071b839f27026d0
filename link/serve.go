package link

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/raftlock/raftlock/link/linkpb"
)

// ServerConfig is how Serve serves.
type ServerConfig struct {
	// Credentials secure the connections; nil: none, for loopback, tests and
	// whoever accepted plain text.
	Credentials credentials.TransportCredentials
}

// Serve serves links and questions that arrive at listener, until ctx ends
// (then it returns nil) or the listener fails. It closes the listener and all
// connections, and returns after every call of handler has.
func Serve(ctx context.Context, listener net.Listener, handler Handler, config ServerConfig) error {
	creds := config.Credentials
	if creds == nil {
		creds = insecure.NewCredentials()
	}
	g := grpc.NewServer(
		grpc.Creds(creds),
		grpc.MaxRecvMsgSize(MessageBytesMax),
		grpc.MaxConcurrentStreams(asksMax),
		grpc.ConnectionTimeout(helloTimeout),
		grpc.KeepaliveParams(serverKeepalive),
		grpc.StaticStreamWindowSize(streamWindow),
		grpc.StaticConnWindowSize(connWindow),
		grpc.KeepaliveEnforcementPolicy(pingsAllowed),
		grpc.WaitForHandlers(true),
	)
	s := &server{handler: handler}
	linkpb.RegisterPeerServer(g, s)

	var stopper sync.WaitGroup
	stop, cancel := context.WithCancel(ctx)
	stopper.Go(func() {
		<-stop.Done()
		g.Stop()
	})
	err := g.Serve(listener)
	ended := ctx.Err() != nil
	cancel()
	stopper.Wait()
	s.links.Wait()
	if ended || err == nil {
		return nil
	}
	return fmt.Errorf("serve peers: %w", err)
}

type server struct {
	linkpb.UnimplementedPeerServer
	handler Handler
	// links counts the calls of Handler.Link: gRPC waits for its own handlers
	// only, and those end with Close.
	links sync.WaitGroup
}

func (s *server) Ask(ctx context.Context, q *linkpb.Question) (*linkpb.Answer, error) {
	if err := CheckQuestion(q); err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	a, err := s.handler.Answer(ctx, q)
	if err != nil {
		return nil, statusOf(err)
	}
	return a, nil
}

// Link serves one link. The stream ends when this returns, and not before: a
// Recv or Send that is blocked in gRPC returns only then. So the Handler runs
// beside, and Close lets this go.
func (s *server) Link(stream linkpb.Peer_LinkServer) error {
	c := &downConn{stream: stream, closed: make(chan struct{})}
	served := make(chan error, 1)
	s.links.Go(func() { served <- s.serve(c) })
	select {
	case err := <-served:
		return statusOf(err)
	case <-c.closed:
		return statusOf(c.why)
	}
}

func (s *server) serve(c *downConn) error {
	hello, err := c.hello()
	if err != nil {
		return err
	}
	welcome := s.handler.Admit(hello)
	if err := c.stream.Send(&linkpb.DownBatch{Welcome: welcome}); err != nil {
		return err
	}
	if welcome.GetRefusal() != linkpb.Welcome_REFUSAL_UNSPECIFIED {
		return nil
	}
	s.handler.Link(hello, welcome, c)
	c.end(ErrClosed)
	return c.why
}

// statusOf gives an error to the other end in gRPC's form.
func statusOf(err error) error {
	if _, already := status.FromError(err); already {
		return err
	}
	switch {
	case errors.Is(err, ErrInvalid):
		return status.Error(codes.InvalidArgument, err.Error())
	case errors.Is(err, ErrClosed):
		return status.Error(codes.Unavailable, err.Error())
	case errors.Is(err, context.DeadlineExceeded):
		return status.Error(codes.DeadlineExceeded, err.Error())
	case errors.Is(err, context.Canceled):
		return status.Error(codes.Canceled, err.Error())
	}
	return status.Error(codes.Internal, err.Error())
}

// downConn is the leader's end of a link.
type downConn struct {
	stream linkpb.Peer_LinkServer
	once   sync.Once
	closed chan struct{}
	// why is set before closed is closed.
	why error
}

// hello waits for the first batch, not for ever: that the transport answers
// pings does not mean that anybody will speak.
func (c *downConn) hello() (*linkpb.Hello, error) {
	late := time.AfterFunc(helloTimeout, func() { c.end(fmt.Errorf("%w: no hello in %v", ErrInvalid, helloTimeout)) })
	defer late.Stop()
	first, err := c.stream.Recv()
	if err != nil {
		return nil, err
	}
	if len(first.Frames) > 0 {
		return nil, fmt.Errorf("%w: frames before the welcome", ErrInvalid)
	}
	return first.Hello, CheckHello(first.Hello)
}

func (c *downConn) Send(frames []*Down) error {
	batches, err := split(frames)
	if err != nil {
		return err
	}
	for _, b := range batches {
		if c.over() {
			return c.why
		}
		if err := c.stream.Send(&linkpb.DownBatch{Frames: b}); err != nil {
			return c.failed(err)
		}
	}
	return nil
}

func (c *downConn) Recv() ([]*Up, error) {
	for !c.over() {
		b, err := c.stream.Recv()
		if err != nil {
			return nil, c.failed(err)
		}
		if err := checkBatch(b.Frames, b.Hello != nil, CheckUp); err != nil {
			c.end(err)
			return nil, err
		}
		if len(b.Frames) > 0 && !c.over() {
			return b.Frames, nil
		}
	}
	return nil, c.why
}

func (c *downConn) Close() { c.end(ErrClosed) }

func (c *downConn) end(why error) {
	c.once.Do(func() {
		c.why = why
		close(c.closed)
	})
}

func (c *downConn) over() bool {
	select {
	case <-c.closed:
		return true
	default:
		return false
	}
}

// failed is what a failure of the stream means: after Close, that.
func (c *downConn) failed(err error) error {
	if c.over() {
		return c.why
	}
	return fmt.Errorf("%w: %w", ErrClosed, err)
}
