package link

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/raftlock/raftlock/link/linkpb"
)

// ErrClosed is wrapped by what fails because the link, or the Client, was
// closed, by either end or by the transport. What was sent may have arrived.
var ErrClosed = errors.New("link closed")

// DialFunc connects to an address.
type DialFunc func(ctx context.Context, addr string) (net.Conn, error)

// ClientConfig is how a Client connects.
type ClientConfig struct {
	// Dial connects; needed.
	Dial DialFunc
	// Credentials secure the connections; nil: none.
	Credentials credentials.TransportCredentials
}

// Client is the Network over gRPC. Each link has a connection of its own, so
// that questions never queue behind frames.
type Client struct {
	config ClientConfig
	peers  *peers

	// mu guards closed and links. It is never held over a call.
	mu     sync.Mutex
	closed bool
	links  map[*upConn]struct{}
	// calls counts Dials and Asks; raised under mu while not closed.
	calls sync.WaitGroup
}

var _ Network = (*Client)(nil)

// NewClient makes a Client; it connects to nobody yet.
func NewClient(config ClientConfig) *Client {
	c := &Client{config: config, links: map[*upConn]struct{}{}}
	c.peers = newPeers(c.connect)
	return c
}

func (c *Client) connect(addr string) (*grpc.ClientConn, error) {
	creds := c.config.Credentials
	if creds == nil {
		creds = insecure.NewCredentials()
	}
	return grpc.NewClient("passthrough:///"+addr,
		grpc.WithContextDialer(c.config.Dial),
		grpc.WithTransportCredentials(creds),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: redial.backoff, MinConnectTimeout: redial.attempt}),
		grpc.WithKeepaliveParams(clientKeepalive),
		grpc.WithStaticStreamWindowSize(streamWindow),
		grpc.WithStaticConnWindowSize(connWindow),
		grpc.WithIdleTimeout(idleTimeout),
		grpc.WithDisableRetry(),
		grpc.WithDisableServiceConfig(),
		grpc.WithNoProxy(),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(MessageBytesMax)))
}

// begin counts a call in; false after Close.
func (c *Client) begin() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	c.calls.Add(1)
	return true
}

// Ask sends one question and waits for its answer, until ctx ends. An address
// that refuses fails at once; it is tried again by an Ask a quarter of a second
// later at the latest. Questions are safe to repeat. The error wraps the
// context's if that ended it, ErrInvalid, or ErrClosed.
func (c *Client) Ask(ctx context.Context, addr string, q *linkpb.Question) (*linkpb.Answer, error) {
	if !c.begin() {
		return nil, fmt.Errorf("ask %s: %w", addr, ErrClosed)
	}
	defer c.calls.Done()
	p, err := c.peers.take(addr)
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", addr, err)
	}
	before := p.answers.Load()
	a, err := linkpb.NewPeerClient(p.conn).Ask(ctx, q)
	if err == nil {
		p.answers.Add(1)
	}
	c.peers.give(p, status.Code(err) == codes.DeadlineExceeded && p.answers.Load() == before)
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", addr, c.meaning(err))
	}
	return a, nil
}

// meaning gives gRPC's error the identity that callers compare with.
func (c *Client) meaning(err error) error {
	c.mu.Lock()
	closed := c.closed
	c.mu.Unlock()
	code := status.Code(err)
	switch {
	case closed:
		return fmt.Errorf("%w: %w", ErrClosed, err)
	case code == codes.DeadlineExceeded:
		return fmt.Errorf("%w: %w", context.DeadlineExceeded, err)
	case code == codes.Canceled:
		return fmt.Errorf("%w: %w", context.Canceled, err)
	case code == codes.InvalidArgument:
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return err
}

// Dial opens a link to the agent at addr. ctx bounds the opening, not the
// link's life. With a refusal it returns the Welcome and an error that wraps
// ErrRefused. Safe to repeat: the newer link replaces.
func (c *Client) Dial(ctx context.Context, addr string, hello *linkpb.Hello) (UpConn, *linkpb.Welcome, error) {
	if err := CheckHello(hello); err != nil {
		return nil, nil, fmt.Errorf("link to %s: %w", addr, err)
	}
	if !c.begin() {
		return nil, nil, fmt.Errorf("link to %s: %w", addr, ErrClosed)
	}
	defer c.calls.Done()
	cc, err := c.connect(addr)
	if err != nil {
		return nil, nil, fmt.Errorf("link to %s: %w", addr, err)
	}
	// The stream lives longer than ctx.
	life, cancel := context.WithCancel(context.WithoutCancel(ctx))
	u := &upConn{client: c, addr: addr, conn: cc, cancel: cancel, closed: make(chan struct{})}
	if !c.add(u) {
		u.end(ErrClosed)
		return nil, nil, fmt.Errorf("link to %s: %w", addr, ErrClosed)
	}
	opening := context.AfterFunc(ctx, func() { u.end(context.Cause(ctx)) })
	welcome, err := u.open(life, hello)
	if !opening() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		u.end(err)
		return nil, welcome, fmt.Errorf("link to %s: %w", addr, err)
	}
	return u, welcome, nil
}

func (c *Client) add(u *upConn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	c.links[u] = struct{}{}
	return true
}

func (c *Client) forget(u *upConn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.links, u)
}

// Close ends every link, every connection, and every Ask and Dial under way,
// and waits for the last two. Safe to repeat.
func (c *Client) Close() {
	c.mu.Lock()
	c.closed = true
	var links []*upConn
	for u := range c.links {
		links = append(links, u)
	}
	c.mu.Unlock()
	for _, u := range links {
		u.Close()
	}
	c.peers.close()
	c.calls.Wait()
}

// upConn is the agent's end of a link.
type upConn struct {
	client *Client
	addr   string
	conn   *grpc.ClientConn
	cancel context.CancelFunc
	stream linkpb.Peer_LinkClient

	once   sync.Once
	closed chan struct{}
	// why is set before closed is closed.
	why error
}

// open says hello and waits for the welcome.
func (u *upConn) open(ctx context.Context, hello *linkpb.Hello) (*linkpb.Welcome, error) {
	stream, err := linkpb.NewPeerClient(u.conn).Link(ctx)
	if err != nil {
		return nil, u.failed(err)
	}
	u.stream = stream
	// An error of Send is io.EOF; Recv has the cause.
	_ = stream.Send(&linkpb.UpBatch{Hello: hello})
	first, err := stream.Recv()
	if err != nil {
		return nil, u.failed(err)
	}
	w := first.Welcome
	switch {
	case w == nil || len(first.Frames) > 0:
		return nil, fmt.Errorf("%w: no welcome", ErrInvalid)
	case w.Refusal != linkpb.Welcome_REFUSAL_UNSPECIFIED:
		return w, fmt.Errorf("%w: %v", ErrRefused, w.Refusal)
	case w.Version < hello.VersionMin || w.Version > hello.VersionMax:
		return nil, fmt.Errorf("%w: welcome to version %d", ErrInvalid, w.Version)
	}
	return w, nil
}

func (u *upConn) Send(frames []*Up) error {
	batches, err := split(frames)
	if err != nil {
		return err
	}
	for _, b := range batches {
		if err := u.stream.Send(&linkpb.UpBatch{Frames: b}); err != nil {
			return u.failed(err)
		}
	}
	return nil
}

func (u *upConn) Recv() ([]*Down, error) {
	for {
		b, err := u.stream.Recv()
		if err != nil {
			return nil, u.failed(err)
		}
		if err := checkBatch(b.Frames, b.Welcome != nil, CheckDown); err != nil {
			u.end(err)
			return nil, err
		}
		if len(b.Frames) > 0 {
			return b.Frames, nil
		}
	}
}

func (u *upConn) Close() { u.end(ErrClosed) }

func (u *upConn) end(why error) {
	u.once.Do(func() {
		u.why = why
		close(u.closed)
		u.cancel()
		_ = u.conn.Close()
		u.client.forget(u)
	})
}

// failed is what a failure of the stream means: after this end's Close, that;
// else what the other end or the transport said.
func (u *upConn) failed(err error) error {
	select {
	case <-u.closed:
		return u.why
	default:
	}
	if status.Code(err) == codes.InvalidArgument {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return fmt.Errorf("%w: %w", ErrClosed, err)
}
