package daemon

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/netutil"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	api "github.com/raftlock/raftlock/api/raftlock/v1"
	"github.com/raftlock/raftlock/uds/jsonapi"
)

// Bounds of the HTTP listener, and how often health is looked at.
const (
	httpTimeout = 10 * time.Second
	// Idle connections keep others out, so they are not kept for long.
	httpIdle        = 5 * time.Second
	httpHeaderMax   = 16 << 10
	httpConnections = 1024
	reportInterval  = 250 * time.Millisecond
)

// httpServer serves reads, metrics and health on loopback, and writes where they
// are switched on.
type httpServer struct {
	listener net.Listener
	server   *http.Server
	calls    sync.WaitGroup // connections; net/http does not wait for handlers
}

// httpIdentity is whose all requests over TCP are: nobody knows who connects.
const httpIdentity = "http"

// overHTTP marks the contexts of requests over TCP.
type overHTTP struct{}

// jsonAPI is the JSON of one listener.
func (d *Daemon) jsonAPI(tcp bool) http.Handler {
	serve := d.opt.Telemetry.Instruments().HTTP(jsonapi.New(jsonapi.Config{
		API: d.api, Gate: d.api, Reach: d.agent.Reach, Behind: d.agent.Behind, Metrics: d.opt.Telemetry.Handler(), Now: time.Now, TCP: tcp, Writes: d.opt.HTTPWrites,
	}))
	return d.opt.Telemetry.Traced(serve, tracedPath)
}

// tracedPath: what asks about locks or the cluster; who scrapes or looks after
// the process's health says nothing of either.
func tracedPath(path string) bool {
	return strings.HasPrefix(path, "/locks") || strings.HasPrefix(path, "/cluster")
}

func serverOf(l net.Listener, handler http.Handler, log *slog.Logger) *httpServer {
	s := &httpServer{listener: netutil.LimitListener(l, httpConnections)}
	s.server = &http.Server{
		Handler: handler, ReadHeaderTimeout: httpTimeout, ReadTimeout: httpTimeout, WriteTimeout: httpTimeout,
		IdleTimeout: httpIdle, MaxHeaderBytes: httpHeaderMax,
		BaseContext: func(net.Listener) context.Context {
			return context.WithValue(context.Background(), overHTTP{}, true) // each connection adds its own end
		},
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		ConnState: func(_ net.Conn, state http.ConnState) {
			switch state {
			case http.StateNew:
				s.calls.Add(1)
			case http.StateClosed, http.StateHijacked:
				s.calls.Done()
			}
		},
	}
	return s
}

// run serves until ctx ends, cuts what is under way then, and returns after its
// handlers have.
func (s *httpServer) run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = s.server.Close() })
	defer stop()
	err := s.server.Serve(s.listener)
	_ = s.server.Close()
	s.calls.Wait()
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

func reasonName(r api.Reason) string { return r.String()[len("REASON_"):] }

// report keeps the gRPC health service, and the log, at what the agent reaches.
func (d *Daemon) report(ctx context.Context) error {
	tick := time.NewTicker(reportInterval)
	defer tick.Stop()
	last := api.Reason_REASON_UNSPECIFIED
	reached := d.opt.Reached
	for {
		if now := d.agent.Reach(); now != last {
			status := healthpb.HealthCheckResponse_NOT_SERVING
			if now == api.Reason_REASON_OK {
				status = healthpb.HealthCheckResponse_SERVING
			}
			d.app.Health().SetServingStatus("", status)
			d.app.Health().SetServingStatus(api.RaftLock_ServiceDesc.ServiceName, status)
			d.log.Info("reach", "reach", reasonName(now))
			last = now
			if now == api.Reason_REASON_OK && reached != nil {
				reached()
				reached = nil
			}
		}
		select {
		case <-ctx.Done():
			d.app.Health().Shutdown()
			return nil
		case <-tick.C:
		}
	}
}
