package raftlock

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	raftlockv1 "github.com/raftlock/raftlock/api/raftlock/v1"
	"github.com/raftlock/raftlock/internal/mutant"
)

// dialUnix connects to one path. As a URL, a path with a percent sign would
// change.
func dialUnix(path string) func(context.Context, string) (net.Conn, error) {
	return func(ctx context.Context, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}
}

func newConn(dial func(context.Context, string) (net.Conn, error), opts ...grpc.DialOption) (*grpc.ClientConn, error) {
	return grpc.NewClient("passthrough:///localhost", append([]grpc.DialOption{
		grpc.WithContextDialer(dial),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDisableServiceConfig(),
		grpc.WithChainUnaryInterceptor(propagate),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(messageBytesMax)),
		// Fixed ones: to estimate them costs a ping and its answer for most
		// messages, and the far end of a Unix socket is near.
		grpc.WithStaticStreamWindowSize(windowBytes),
		grpc.WithStaticConnWindowSize(windowBytes),
	}, opts...)...)
}

// reader is the one connection that a client's reads share. It is made by the
// first read, and made anew by gRPC whenever it breaks.
type reader struct {
	mu      sync.Mutex // guards all of it
	conn    *grpc.ClientConn
	closed  bool
	dialErr error // of the last try to connect
}

// open returns the connection, which the first call makes.
func (r *reader) open(path string) (raftlockv1.RaftLockClient, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, ErrClosed
	}
	if r.conn == nil {
		conn, err := newConn(r.noting(dialUnix(path)), grpc.WithConnectParams(grpc.ConnectParams{
			// As sessions do: whoever waits for an agent's restart waits little longer.
			Backoff:           backoff.Config{BaseDelay: redialMin, Multiplier: 2, Jitter: 0.2, MaxDelay: redialMax},
			MinConnectTimeout: redialMax,
		}))
		if err != nil {
			return nil, err
		}
		r.conn = conn
	}
	return raftlockv1.NewRaftLockClient(r.conn), nil
}

// noting keeps the error of the last dial, which gRPC would tell as text only.
func (r *reader) noting(dial func(context.Context, string) (net.Conn, error)) func(context.Context, string) (net.Conn, error) {
	return func(ctx context.Context, addr string) (net.Conn, error) {
		conn, err := dial(ctx, addr)
		r.mu.Lock()
		defer r.mu.Unlock()
		r.dialErr = err
		return conn, err
	}
}

func (r *reader) obstacle() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.dialErr
}

func (r *reader) close() error {
	r.mu.Lock()
	conn := r.conn
	r.conn, r.closed = nil, true
	r.mu.Unlock()
	if conn == nil {
		return nil
	}
	// Not under the mutex: it waits for dials, which note their errors.
	return conn.Close()
}

func (r *reader) isClosed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.closed
}

// Close closes the connection that reads share; reads fail with ErrClosed from
// then on, those under way too. Sessions and members have connections of their
// own and are not touched. Safe to repeat.
func (c *Client) Close() error { return c.reads.close() }

// repetition says whether a question may be asked again when the connection
// broke under it.
type repetition bool

const (
	harmless repetition = true
	harmful  repetition = false
)

// read asks one question until it is answered or ctx ends: nothing is changed
// by asking again. doing says in errors what was asked.
func (c *Client) read(ctx context.Context, doing string, ask func(context.Context, raftlockv1.RaftLockClient) error) error {
	if err := c.asked(ctx, harmless, ask); err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	return nil
}

func (c *Client) asked(ctx context.Context, again repetition, ask func(context.Context, raftlockv1.RaftLockClient) error) error {
	if c.cfg.dialer != nil {
		return invalid("it needs a socket, and the client was given a dialer")
	}
	agent, err := c.reads.open(c.cfg.socket)
	for pause := redialMin; err == nil; pause = min(2*pause, redialMax) {
		err = ask(ctx, agent)
		if err == nil {
			return nil
		}
		if _, told := errorInfo(err); told || status.Code(err) != codes.Unavailable {
			break
		}
		// The connection broke under the question.
		if again == harmful && !mutant.On("sdk-plain-once") {
			return givenUp(raftlockv1.Reason_REASON_OK, AppliedUnknown, fmt.Errorf("the connection broke before the answer: %w", err))
		}
		select {
		case <-time.After(pause):
			err = nil
		case <-ctx.Done():
		}
	}
	return c.readError(ctx, err)
}

func (c *Client) readError(ctx context.Context, err error) error {
	_, told := errorInfo(err)
	switch {
	case told:
		return FromStatus(err)
	case c.reads.isClosed():
		return ErrClosed
	case ctx.Err() != nil:
		return givenUp(raftlockv1.Reason_REASON_OK, AppliedNo, c.readObstacle(ctx.Err()))
	case status.Code(err) == codes.DeadlineExceeded:
		// The agent's timer, or gRPC's, ran out before ours.
		return givenUp(raftlockv1.Reason_REASON_OK, AppliedNo, c.readObstacle(context.DeadlineExceeded))
	}
	return FromStatus(err)
}

func (c *Client) readObstacle(err error) error {
	if obstacle := c.reads.obstacle(); obstacle != nil && !errors.Is(obstacle, context.Canceled) {
		return fmt.Errorf("%w: no connection to %s: %w", err, c.cfg.where(), obstacle)
	}
	return fmt.Errorf("%w: no answer from %s", err, c.cfg.where())
}
