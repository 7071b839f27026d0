package uds

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
)

// Defaults of Config.
const (
	ModeDefault              os.FileMode = 0o660
	ConnectionsDefault                   = 8192
	SilentDefault                        = 256
	FirstBytesTimeoutDefault             = 5 * time.Second
	StopTimeoutDefault                   = 2 * time.Second
	MessageBytesDefault                  = 4 << 20
	StreamsDefault                       = 256
)

// Config is how a Server listens and serves. Path or Listener is needed; all
// else has a default that zero stands for.
type Config struct {
	// Path is where the socket file goes; it is made absolute. Its directory
	// must exist, and whoever may write there can replace the socket.
	Path string
	// Mode of the socket file, default 0660: who may write may connect.
	Mode os.FileMode
	// Group is a group's name or number that the socket file is given to. Empty:
	// the group that the process makes files with.
	Group string
	// Listener, of a Unix socket, is served instead of Path. Run closes it and
	// leaves its file, owner and mode alone.
	Listener net.Listener

	// Kernel tells about peers; nil: a NewKernel.
	Kernel *Kernel
	// Log takes what an operator should see; nil: nothing.
	Log *slog.Logger
	// Register adds the gRPC services. The health and reflection services are
	// added here. It is called once, by Listen.
	Register func(*grpc.Server)
	// GRPC are further options of the gRPC server: what measures its calls, say.
	GRPC []grpc.ServerOption
	// HTTP serves HTTP/1.1; nil: every request is answered 501.
	HTTP http.Handler

	// Connections bounds all connections, default 8192, or a quarter of the
	// descriptors this process may have if that is less. One user may have three quarters.
	Connections int
	// Silent bounds those of which nothing was read yet, default 256.
	Silent int
	// FirstBytesTimeout is how long they may be silent, default 5 s.
	FirstBytesTimeout time.Duration
	// StopTimeout is how long calls may take to end when Run's ctx ended, default
	// 2 s; then they are cut. Streams that their handlers do not end take it all.
	StopTimeout time.Duration
	// MessageBytes bounds a gRPC message that comes in, and the body of an HTTP
	// request, default 4 MiB. What goes out is for its handler to bound.
	MessageBytes int
	// Streams bounds the calls under way of one gRPC connection, default 256.
	// More wait at the client.
	Streams uint32
}

// Validate reports everything that is wrong with c at once.
func (c Config) Validate() error {
	var errs []error
	if (c.Path == "") == (c.Listener == nil) {
		errs = append(errs, errors.New("either a path or a listener is needed"))
	}
	if c.Listener != nil && c.Listener.Addr().Network() != "unix" {
		errs = append(errs, fmt.Errorf("listener at %s: %w", c.Listener.Addr(), errNotUnix))
	}
	if c.Mode&^os.ModePerm != 0 {
		errs = append(errs, fmt.Errorf("mode %v has more than permissions", c.Mode))
	}
	if c.Connections < 0 || c.Silent < 0 || c.MessageBytes < 0 {
		errs = append(errs, errors.New("a bound is negative"))
	}
	if c.FirstBytesTimeout < 0 || c.StopTimeout < 0 {
		errs = append(errs, errors.New("a timeout is negative"))
	}
	return errors.Join(errs...)
}

func (c Config) withDefaults() Config {
	if c.Mode == 0 {
		c.Mode = ModeDefault
	}
	if c.Kernel == nil {
		c.Kernel = NewKernel()
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.HTTP == nil {
		c.HTTP = http.HandlerFunc(notImplemented)
	}
	if c.Connections == 0 {
		c.Connections = min(ConnectionsDefault, descriptorsMax()/4)
	}
	orDefault(&c.Silent, SilentDefault)
	orDefault(&c.FirstBytesTimeout, FirstBytesTimeoutDefault)
	orDefault(&c.StopTimeout, StopTimeoutDefault)
	orDefault(&c.MessageBytes, MessageBytesDefault)
	orDefault(&c.Streams, StreamsDefault)
	return c
}

func orDefault[T comparable](value *T, otherwise T) {
	var zero T
	if *value == zero {
		*value = otherwise
	}
}

// descriptorsMax is how many files this process may have open. A connection
// takes up to two.
func descriptorsMax() int {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 1024
	}
	return int(min(limit.Cur, 1<<30))
}
