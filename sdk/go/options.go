package raftlock

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"go.opentelemetry.io/otel/trace"
)

const (
	// TTLMin is the least TTL a session can have.
	TTLMin = 200 * time.Millisecond
	// DefaultTTL survives a leader's crash with ease (an election takes 2 to 3 s).
	DefaultTTL = 10 * time.Second
	// DefaultSocket is where a host's agent listens.
	DefaultSocket = "/run/raftlock.sock"
	// podSocket is where it does in a pod, which shares a folder, not a socket.
	podSocket = "/run/raftlock/raftlock.sock"

	// socketPathMax is what the kernel's sockaddr_un holds.
	socketPathMax = 107
)

type config struct {
	socket string
	dialer func(context.Context) (Stream, error)
	clock  func() time.Duration
	ttl    time.Duration
	rand   io.Reader
	log    *slog.Logger
	getpid func() int
	// tracers is who records spans; nil: the global one.
	tracers trace.TracerProvider

	leaseOnExit bool
}

// Option changes a default of Dial or NewSession. Given to Client.Session it
// counts for that session only.
type Option func(*config)

// Socket is where the agent is looked for: the variable RAFTLOCK_SOCKET, else
// DefaultSocket, or if only that is there the place it has in a pod,
// /run/raftlock/raftlock.sock.
func Socket() string {
	if named := os.Getenv("RAFTLOCK_SOCKET"); named != "" {
		return named
	}
	return firstThere(DefaultSocket, podSocket)
}

// firstThere is the first of the places where something is, or just the first.
func firstThere(places ...string) string {
	for _, place := range places {
		if _, err := os.Stat(place); err == nil {
			return place
		}
	}
	return places[0]
}

// WithSocket names the agent's socket. Default: Socket().
func WithSocket(path string) Option { return func(c *config) { c.socket = path } }

// WithDialer replaces the socket altogether. The context given to dial lives
// as long as the session, and the stream may be bound to it; dial must return
// when it ends.
func WithDialer(dial func(context.Context) (Stream, error)) Option {
	return func(c *config) { c.dialer = dial }
}

// WithClock replaces CLOCK_BOOTTIME. It must be the agent's clock too, never
// step back, be safe from any goroutine and not block.
func WithClock(clock func() time.Duration) Option { return func(c *config) { c.clock = clock } }

// WithTTL sets the session's TTL: how long its locks outlive an agent or a
// process that fell silent. Default DefaultTTL, least TTLMin; below an election
// (2 to 3 s) locks do not survive a leader's crash.
func WithTTL(ttl time.Duration) Option { return func(c *config) { c.ttl = ttl } }

// WithLeaseOnExit lets the session's lease run out when the process exits,
// instead of ending the session at that instant. By default a lock is free
// milliseconds after its holder died, and that makes stale work by others more
// likely, not less: what the dead process had sent to another system (a query
// under way, a request in a proxy, a child that goes on) may still arrive when
// the next holder has begun. The lease gives it up to one TTL to drain; the next
// holder waits as long. Either way only the token, checked by that system, tells
// late work from new. Close still ends the session at once.
func WithLeaseOnExit() Option { return func(c *config) { c.leaseOnExit = true } }

// WithRand replaces crypto/rand as the source of session ids, secrets and
// jitter. Two sessions must never read the same.
func WithRand(r io.Reader) Option { return func(c *config) { c.rand = r } }

// WithLogger sets where streams made and broken and locks lost are told.
// Default: nowhere.
func WithLogger(log *slog.Logger) Option { return func(c *config) { c.log = log } }

func defaults() config {
	return config{
		socket: Socket(),
		ttl:    DefaultTTL,
		rand:   rand.Reader,
		log:    slog.New(slog.DiscardHandler),
		getpid: os.Getpid,
	}
}

func (c config) with(opts []Option) (config, error) {
	for _, o := range opts {
		o(&c)
	}
	if c.ttl < TTLMin {
		return c, invalid("TTL %v is below %v", c.ttl, TTLMin)
	}
	if c.dialer == nil && len(c.socket) > socketPathMax {
		return c, invalid("socket path %q is longer than %d bytes", c.socket, socketPathMax)
	}
	if c.clock == nil {
		clock, err := hostClock()
		if err != nil {
			return c, err
		}
		c.clock = clock
	}
	return c, nil
}

// where names the far end in errors.
func (c *config) where() string {
	if c.dialer != nil {
		return "the agent"
	}
	return fmt.Sprintf("the agent at %s", c.socket)
}

// dial makes a stream.
func (c *config) dial(ctx context.Context) (Stream, error) {
	if c.dialer != nil {
		return c.dialer(ctx)
	}
	return dialSocket(ctx, c.socket)
}
