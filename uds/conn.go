package uds

import (
	"container/list"
	"context"
	"net"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
)

// conn is an accepted connection with its peer, and the bytes that were read to
// decide who serves it.
type conn struct {
	net.Conn
	peer   *Peer
	crowd  *crowd
	unread []byte
	once   sync.Once
	idle   *list.Element // the crowd's; nil: not idle
	calls  int           // the crowd's: calls of gRPC under way
	// answered is called when something is written to it, or it is closed; calls
	// after the first do nothing.
	answered func()
}

// Read implements net.Conn.
func (c *conn) Read(p []byte) (int, error) {
	if len(c.unread) == 0 {
		return c.Conn.Read(p)
	}
	n := copy(p, c.unread)
	c.unread = c.unread[n:]
	return n, nil
}

// Write implements net.Conn.
func (c *conn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.answered()
	return n, err
}

// Close implements net.Conn. The peer stays watched where somebody watches.
func (c *conn) Close() error {
	c.once.Do(func() {
		c.crowd.leave(c)
		c.peer.release()
	})
	c.answered()
	return c.Conn.Close()
}

// half is one protocol's listener.
type half struct {
	addr   net.Addr
	conns  chan *conn
	closed chan struct{}
	once   sync.Once
}

func newHalf(addr net.Addr) *half {
	return &half{addr: addr, conns: make(chan *conn), closed: make(chan struct{})}
}

// offer hands over a connection, or closes it if nobody accepts any more.
func (h *half) offer(c *conn) {
	select {
	case h.conns <- c:
	case <-h.closed:
		_ = c.Close()
	}
}

// Accept implements net.Listener.
func (h *half) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (h *half) Close() error {
	h.once.Do(func() { close(h.closed) })
	return nil
}

// Addr implements net.Listener.
func (h *half) Addr() net.Addr { return h.addr }

// authInfo carries the peer to gRPC's handlers. The kernel keeps others from
// reading or changing what passes.
type authInfo struct {
	credentials.CommonAuthInfo
	conn *conn
}

// AuthType implements credentials.AuthInfo.
func (authInfo) AuthType() string { return "unix-peer" }

// handshake finds the peer that was asked for at accept.
type handshake struct{}

// ServerHandshake implements credentials.TransportCredentials.
func (handshake) ServerHandshake(n net.Conn) (net.Conn, credentials.AuthInfo, error) {
	c, ok := n.(*conn)
	if !ok {
		return nil, nil, errNotUnix
	}
	level := credentials.CommonAuthInfo{SecurityLevel: credentials.PrivacyAndIntegrity}
	return c, authInfo{level, c}, nil
}

// ClientHandshake implements credentials.TransportCredentials.
func (handshake) ClientHandshake(context.Context, string, net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errNotUnix
}

// Info implements credentials.TransportCredentials.
func (handshake) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "unix-peer"}
}

// Clone implements credentials.TransportCredentials.
func (handshake) Clone() credentials.TransportCredentials { return handshake{} }

// OverrideServerName implements credentials.TransportCredentials.
func (handshake) OverrideServerName(string) error { return nil }

// errHungUp is for a call whose connection ended before its handler began. Its
// peer may not be watched any more, so that a session opened now would have no
// one whose death ends it; and there is nobody to answer.
var errHungUp = status.Error(codes.Canceled, "the connection ended")

// holdUnary keeps the peer watched, and the connection from resting, while a call
// is served.
func holdUnary(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	release, err := hold(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	return handle(ctx, req)
}

// holdStream does the same while a stream is served.
func holdStream(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
	release, err := hold(stream.Context())
	if err != nil {
		return err
	}
	defer release()
	return handle(srv, stream)
}

// connFrom is the connection that a call of gRPC came by.
func connFrom(ctx context.Context) (*conn, bool) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return nil, false
	}
	info, ok := p.AuthInfo.(authInfo)
	return info.conn, ok
}

func hold(ctx context.Context) (release func(), err error) {
	c, ok := connFrom(ctx)
	if !ok {
		return func() {}, nil
	}
	if !c.peer.hold() {
		return nil, errHungUp
	}
	c.crowd.calls(c, 1)
	return func() {
		c.crowd.calls(c, -1)
		c.peer.release()
	}, nil
}
