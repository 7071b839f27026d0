package uds

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"

	"github.com/raftlock/raftlock/internal/mutant"
)

// Clients need not ping and may every 5 s. The server does: the kernel tells
// that a process died, not that it was stopped.
var (
	serverPings  = keepalive.ServerParameters{Time: 10 * time.Second, Timeout: 5 * time.Second}
	pingsAllowed = keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}
)

// What one gRPC connection may take of memory. An application's is mostly idle,
// and there are many; a socket has no round trip to fill.
const (
	headerBytesMax   = 16 << 10
	readBufferBytes  = 4 << 10
	streamWindow     = 256 << 10
	connectionWindow = 1 << 20
)

// Pauses after an accept failed for want of descriptors.
const (
	acceptPauseMin = 5 * time.Millisecond
	acceptPauseMax = time.Second
)

// lastAnswers is how long a stopping server waits for those who connected last
// to be answered.
const lastAnswers = 100 * time.Millisecond

// Server serves one socket. Listen makes it; then either Run or Close has to be
// called.
type Server struct {
	config   Config
	log      *slog.Logger
	claim    *claim // nil with a Listener that was handed in
	listener net.Listener
	used     atomic.Bool

	crowd  *crowd
	grpc   *grpc.Server
	http   *http.Server
	halves struct{ grpc, http *half }
	health *health.Server
	// calls counts HTTP's connections; gRPC counts its own.
	calls sync.WaitGroup
	// opening counts connections that nothing was answered on yet.
	opening sync.WaitGroup

	// complained is when refusing was logged last; accept's alone.
	complained time.Time
}

// Listen takes the path, so that clients may connect; they are served from Run
// on. Errors: those of Validate, ErrInUse, ErrPathTooLong, ErrNotSocket, and what
// the kernel says; all name the path, and it may be tried again.
//
// It replaces a socket file that nobody listens on, and keeps a lock file beside,
// named like it with ".lock", which it leaves behind. The kernel goes on showing
// the name the socket was made under, which ends in ".new".
func Listen(c Config) (*Server, error) {
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("listen on a Unix socket: %w", err)
	}
	s := &Server{config: c.withDefaults(), listener: c.Listener}
	s.log = s.config.Log.With("component", "uds")
	if c.Listener == nil {
		claim, listener, err := listenAt(s.config)
		if err != nil {
			return nil, fmt.Errorf("listen: %w", err)
		}
		s.claim, s.listener = claim, listener
	}
	s.crowd = newCrowd(s.config)
	s.halves.grpc, s.halves.http = newHalf(s.listener.Addr()), newHalf(s.listener.Addr())
	s.http = newHTTP(s.config)
	s.http.ConnState = s.countHTTP
	s.grpc = s.newGRPC()
	return s, nil
}

func (s *Server) newGRPC() *grpc.Server {
	g := grpc.NewServer(append([]grpc.ServerOption{
		grpc.Creds(handshake{}),
		grpc.ConnectionTimeout(s.config.FirstBytesTimeout),
		grpc.MaxRecvMsgSize(s.config.MessageBytes),
		grpc.MaxConcurrentStreams(s.config.Streams),
		grpc.MaxHeaderListSize(headerBytesMax),
		grpc.ReadBufferSize(readBufferBytes),
		grpc.StaticStreamWindowSize(streamWindow),
		grpc.StaticConnWindowSize(connectionWindow),
		grpc.KeepaliveParams(serverPings),
		grpc.KeepaliveEnforcementPolicy(pingsAllowed),
		grpc.WaitForHandlers(true),
		grpc.ChainUnaryInterceptor(holdUnary),
		grpc.ChainStreamInterceptor(holdStream),
	}, s.config.GRPC...)...)
	s.health = health.NewServer()
	s.health.SetServingStatus("", healthpb.HealthCheckResponse_NOT_SERVING)
	healthpb.RegisterHealthServer(g, s.health)
	if s.config.Register != nil {
		s.config.Register(g)
	}
	reflection.Register(g)
	return g
}

// Health is what the gRPC health service answers: NOT_SERVING until the agent
// sets another status, and again, for good, when Run stops.
func (s *Server) Health() *health.Server { return s.health }

// Addr is where the socket listens: under its final name.
func (s *Server) Addr() string {
	if s.claim != nil {
		return s.claim.path
	}
	return s.listener.Addr().String()
}

// Close gives up what Listen took, for a Server that will not Run. Otherwise, and
// when repeated, it does nothing.
func (s *Server) Close() error {
	if !s.used.CompareAndSwap(false, true) {
		return nil
	}
	s.stopListening()
	s.grpc.Stop()
	s.unlock()
	return nil
}

// Run serves until ctx ends, and then returns nil when all calls have ended, or
// were cut after Config.StopTimeout, and all handlers returned; or it fails with
// what makes serving impossible, and has stopped likewise. It removes the socket
// file first if it is still its own, and whoever had connected by then is served,
// unless silent. It can be called once.
func (s *Server) Run(ctx context.Context) error {
	if !s.used.CompareAndSwap(false, true) {
		return errors.New("uds: run or closed before")
	}
	defer s.unlock()
	watching, err := newExits()
	if err != nil {
		s.stopListening()
		s.grpc.Stop()
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var running, deciding sync.WaitGroup
	var watchErr error
	running.Go(func() {
		watchErr = watching.run()
		cancel()
	})
	running.Go(func() {
		<-ctx.Done()
		s.stopListening()
	})
	running.Go(func() { _ = s.grpc.Serve(s.halves.grpc) })
	running.Go(func() { _ = s.http.Serve(s.halves.http) })
	s.log.Info("serving", "socket", s.Addr(), "kernel", s.config.Kernel)

	err = s.accept(ctx, watching, &deciding)
	cancel()
	s.answerLast(&running)
	s.crowd.close()
	s.stopServing()
	deciding.Wait()
	watching.close()
	running.Wait()
	return errors.Join(err, watchErr)
}

// stopListening turns new clients away. The file goes before its listener, while
// the lock is held.
func (s *Server) stopListening() {
	if s.claim != nil {
		s.claim.remove()
	}
	_ = s.listener.Close()
}

func (s *Server) unlock() {
	if s.claim != nil {
		s.claim.unlock()
	}
}

// stopServing ends the calls, and waits for their handlers.
func (s *Server) stopServing() {
	s.health.Shutdown()
	ctx, cancel := context.WithTimeout(context.Background(), s.config.StopTimeout)
	defer cancel()
	cut := context.AfterFunc(ctx, s.grpc.Stop)
	var stopping sync.WaitGroup
	stopping.Go(s.grpc.GracefulStop)
	stopping.Go(func() {
		if s.http.Shutdown(ctx) != nil {
			_ = s.http.Close()
		}
	})
	stopping.Wait()
	if !cut() {
		// It may still be at it.
		s.grpc.Stop()
	}
	_, _ = s.halves.grpc.Close(), s.halves.http.Close()
	s.calls.Wait()
}

// answerLast lets those be served who were accepted when Run's ctx ended. Whoever
// comes later waits in the queue of a listener that was handed in, for the next
// agent: nobody who connects is turned away. The silent keep it waiting, but not
// for long.
func (s *Server) answerLast(running *sync.WaitGroup) {
	if mutant.On("uds-answer-last") {
		return
	}
	answered := make(chan struct{})
	running.Go(func() {
		s.opening.Wait() // for their ends at the latest
		close(answered)
	})
	patience := time.NewTimer(lastAnswers)
	defer patience.Stop()
	select {
	case <-answered:
	case <-patience.C:
	}
}

// countHTTP is the hook of net/http, which does not wait for handlers itself. A
// connection whose request's header is not whole yet is new, and may be closed
// like an idle one where others need the room.
func (s *Server) countHTTP(n net.Conn, state http.ConnState) {
	s.crowd.rests(n.(*conn), state == http.StateNew || state == http.StateIdle)
	switch state {
	case http.StateNew:
		s.calls.Add(1)
	case http.StateClosed, http.StateHijacked:
		s.calls.Done()
	}
}

// accept takes connections until ctx ends or the listener fails.
func (s *Server) accept(ctx context.Context, watching *exits, deciding *sync.WaitGroup) error {
	pause := acceptPauseMin
	for {
		n, err := s.listener.Accept()
		switch {
		case ctx.Err() != nil && err != nil:
			return nil
		case outOfRoom(err):
			// Until other connections end.
			s.complain(err)
			if !wait(ctx, pause) {
				return nil
			}
			pause = min(2*pause, acceptPauseMax)
			continue
		case err != nil:
			return fmt.Errorf("accept at %s: %w", s.Addr(), err)
		}
		pause = acceptPauseMin
		c, err := s.meet(n, watching)
		if err != nil {
			_ = n.Close()
			s.complain(err)
			continue
		}
		deciding.Go(func() { s.decide(c) })
	}
}

// meet finds out who connected and whether there is room.
func (s *Server) meet(n net.Conn, watching *exits) (*conn, error) {
	u, err := asUnixConn(n)
	if err != nil {
		return nil, err
	}
	peer, err := s.config.Kernel.peerOf(u, watching)
	if err != nil {
		return nil, err
	}
	s.opening.Add(1)
	c := &conn{Conn: n, peer: peer, crowd: s.crowd, answered: sync.OnceFunc(s.opening.Done)}
	if err := s.crowd.enter(c); err != nil {
		c.answered()
		peer.release()
		return nil, fmt.Errorf("refuse pid %d of %s: %w", peer.PID, peer.Identity(), err)
	}
	return c, nil
}

// decide reads whether HTTP/2 begins, which nothing but gRPC speaks here.
func (s *Server) decide(c *conn) {
	var first [3]byte
	_ = c.SetReadDeadline(time.Now().Add(s.config.FirstBytesTimeout))
	_, err := io.ReadFull(c.Conn, first[:])
	s.crowd.heard(c)
	if err == nil {
		err = c.SetReadDeadline(time.Time{})
	}
	if err != nil {
		_ = c.Close()
		return
	}
	c.unread = first[:]
	if string(first[:]) == "PRI" {
		s.crowd.rests(c, true) // until its first call
		s.halves.grpc.offer(c)
	} else {
		s.halves.http.offer(c)
	}
}

// complain logs why a connection was not served, once a second at most.
func (s *Server) complain(err error) {
	if now := time.Now(); now.Sub(s.complained) >= time.Second && !errors.Is(err, errStopping) {
		s.complained = now
		s.log.Warn("connection not served", "socket", s.Addr(), "err", err)
	}
}

// outOfRoom: the process or the host has no descriptor or memory to spare, or
// the client was gone before it was accepted.
func outOfRoom(err error) bool {
	return errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) || errors.Is(err, unix.ENOBUFS) ||
		errors.Is(err, unix.ENOMEM) || errors.Is(err, unix.ECONNABORTED)
}

// wait reports false if ctx ended first.
func wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
