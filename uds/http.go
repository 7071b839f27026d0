package uds

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"time"
)

// Bounds on an HTTP/1.1 connection.
const (
	httpHeaderBytesMax = 64 << 10
	httpHeaderTimeout  = 10 * time.Second
	httpIdleTimeout    = 2 * time.Minute
)

func newHTTP(c Config) *http.Server {
	return &http.Server{
		Handler:           http.MaxBytesHandler(holdHTTP(c.HTTP), int64(c.MessageBytes)),
		ReadHeaderTimeout: httpHeaderTimeout,
		IdleTimeout:       httpIdleTimeout,
		MaxHeaderBytes:    httpHeaderBytesMax,
		ErrorLog:          slog.NewLogLogger(c.Log.Handler(), slog.LevelDebug),
		ConnContext: func(ctx context.Context, n net.Conn) context.Context {
			return context.WithValue(ctx, peerKey{}, n.(*conn).peer)
		},
	}
}

// holdHTTP keeps the peer watched while a request is served.
func holdHTTP(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer crash()
		p, _ := PeerFrom(r.Context())
		if !p.hold() {
			return
		}
		defer p.release()
		next.ServeHTTP(w, r)
	})
}

// crash keeps net/http from going on after a panic. A handler that panicked may
// have left a mutex locked, and the agent would go on vouching behind it.
func crash() {
	v := recover()
	if v == nil {
		return
	}
	if v == http.ErrAbortHandler {
		panic(v)
	}
	stack := debug.Stack()
	go panic(fmt.Sprintf("%v\n\n%s", v, stack))
	select {} // until that has ended the process
}

func notImplemented(w http.ResponseWriter, _ *http.Request) {
	http.Error(w, "This socket speaks gRPC only; there is no HTTP/1.1 API here.", http.StatusNotImplemented)
}
