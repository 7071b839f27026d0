package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	healthpb "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/raftlock/raftlock/agent"
	api "github.com/raftlock/raftlock/api/raftlock/v1"
)

// Bounds of the HTTP listener, and how often health is looked at.
const (
	httpTimeout    = 10 * time.Second
	httpHeaderMax  = 16 << 10
	reportInterval = 250 * time.Millisecond
)

// httpServer serves health and reads on loopback.
type httpServer struct {
	listener net.Listener
	server   *http.Server
	calls    sync.WaitGroup // connections; net/http does not wait for handlers
}

func newHTTPServer(l net.Listener, a *agent.Agent, s *agent.API, log *slog.Logger) *httpServer {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, map[string]string{"status": "alive"})
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if reach := a.Reach(); reach != api.Reason_REASON_OK {
			answer(w, http.StatusServiceUnavailable, map[string]string{"status": "not ready", "reason": reasonName(reach)})
			return
		}
		answer(w, http.StatusOK, map[string]string{"status": "ready"})
	})
	mux.HandleFunc("GET /cluster/info", func(w http.ResponseWriter, r *http.Request) {
		st, err := s.Status(r.Context(), &api.StatusRequest{})
		if err != nil {
			answer(w, http.StatusServiceUnavailable, map[string]string{"error": err.Error()})
			return
		}
		answer(w, http.StatusOK, infoOf(st))
	})
	return serverOf(l, mux, log)
}

func serverOf(l net.Listener, handler http.Handler, log *slog.Logger) *httpServer {
	s := &httpServer{listener: l}
	s.server = &http.Server{
		Handler: handler, ReadHeaderTimeout: httpTimeout, ReadTimeout: httpTimeout, WriteTimeout: httpTimeout,
		IdleTimeout: time.Minute, MaxHeaderBytes: httpHeaderMax,
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

func answer(w http.ResponseWriter, code int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	_ = e.Encode(body) // the caller hung up: nobody is there to be told
}

// clusterInfo is /cluster/info; its field names are fixed (design section 11).
type clusterInfo struct {
	ClusterID  string     `json:"cluster_id"`
	LeaderID   string     `json:"leader_id"`
	Leader     string     `json:"leader"`
	Term       uint64     `json:"term"`
	QuorumSize uint32     `json:"quorum_size"`
	HasQuorum  bool       `json:"has_quorum"`
	Nodes      []nodeInfo `json:"nodes"`
}

type nodeInfo struct {
	ID      string `json:"id"`
	Name    string `json:"name"`
	Address string `json:"address"`
	// State is leader, voter, standby, forwarder, fresh (of no cluster yet), or
	// unknown while no leader tells.
	State string `json:"state"`
	Alive bool   `json:"alive"`
}

func infoOf(st *api.StatusResponse) clusterInfo {
	out := clusterInfo{
		ClusterID: st.ClusterId, LeaderID: st.LeaderId, Leader: st.LeaderName, Term: st.Term,
		QuorumSize: st.QuorumSize, HasQuorum: st.HasQuorum, Nodes: []nodeInfo{},
	}
	for _, n := range st.Nodes {
		state := roleName(n.Role)
		if n.Leader {
			state = "leader"
		}
		out.Nodes = append(out.Nodes, nodeInfo{ID: n.ServerId, Name: n.Name, Address: n.Address, State: state, Alive: n.Alive})
	}
	return out
}

func roleName(r api.Node_Role) string {
	switch r {
	case api.Node_ROLE_VOTER:
		return "voter"
	case api.Node_ROLE_STANDBY:
		return "standby"
	case api.Node_ROLE_FORWARDER:
		return "forwarder"
	case api.Node_ROLE_FRESH:
		return "fresh"
	}
	return "unknown"
}

func reasonName(r api.Reason) string { return r.String()[len("REASON_"):] }

// report keeps the gRPC health service, and the log, at what the agent reaches.
func (d *Daemon) report(ctx context.Context) error {
	tick := time.NewTicker(reportInterval)
	defer tick.Stop()
	last := api.Reason_REASON_UNSPECIFIED
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
		}
		select {
		case <-ctx.Done():
			d.app.Health().Shutdown()
			return nil
		case <-tick.C:
		}
	}
}
