package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/raftlock/raftlock/agent/session"
	api "github.com/raftlock/raftlock/api/raftlock/v1"
	"github.com/raftlock/raftlock/fsm/command"
	"github.com/raftlock/raftlock/link/linkpb"
)

const (
	// readTimeout bounds a read whose caller set no deadline.
	readTimeout = 10 * time.Second
	// A caller's deadline is stopped short of, by a tenth of what is left but no
	// more than this: else the caller would hear of no reason, only of its own
	// deadline.
	answerMargin = 100 * time.Millisecond
	// queryBytesMax bounds what is asked: it travels as a frame of the link that
	// all of this host share, and is compared with every lock.
	queryBytesMax = 8 << 10
)

// errNoPeer: a session needs a process that the kernel vouches for.
var errNoPeer = errors.New("the caller's process is not known")

// APIConfig is what the services of an agent's sockets need beside it.
type APIConfig struct {
	// Peer tells the process that calls.
	Peer func(context.Context) (session.Peer, bool)
	// Identity tells whose call it is, such as "uid:1000": by it plain holds and
	// requests are bounded. False: nobody's, and only reads are answered. Nil:
	// always false.
	Identity func(context.Context) (string, bool)
	// Limiter bounds what each identity asks for; nil: nothing is bounded.
	Limiter Limiter
	// Work is for what takes this host's processors alone: what callers wrote is
	// read, and pages of its own replica. Asked is for pages that a leader is asked
	// for, who may take long to answer. Nil: any number at once.
	Work, Asked Turns
	// Seen is every agent in view.
	Seen func() []Seen
	// Version of the software, for people.
	Version string
	Log     *slog.Logger
}

// API serves the application socket: the gRPC service raftlock.v1.RaftLock.
type API struct {
	api.UnimplementedRaftLockServer
	a       *Agent
	cfg     APIConfig
	log     *slog.Logger
	serving sync.WaitGroup
	drawing sync.Mutex // guards the agent's Rand, for request ids
}

// NewAPI makes the service of a. It starts nothing.
func NewAPI(a *Agent, cfg APIConfig) *API { return &API{a: a, cfg: cfg, log: cfg.Log} }

// Wait returns when no stream is served any more; call it after the server of
// the socket has stopped.
func (s *API) Wait() { s.serving.Wait() }

// Session serves one process's stream.
func (s *API) Session(st grpc.BidiStreamingServer[api.SessionRequest, api.SessionResponse]) error {
	peer, ok := s.cfg.Peer(st.Context())
	if !ok {
		return s.refusal(errNoPeer, reads)
	}
	stream := &appStream{BidiStreamingServer: st, closed: make(chan struct{})}
	served := make(chan error, 1)
	s.serving.Go(func() { served <- s.a.sessions.Serve(st.Context(), stream, peer) })
	select {
	case err := <-served:
		if errors.Is(err, session.ErrFirst) || errors.Is(err, session.ErrClosed) {
			return s.refusal(err, reads)
		}
		return nil // the stream itself has said why
	case <-stream.closed:
		return nil // which makes a Recv under way fail
	}
}

// appStream is a gRPC stream that its server can close.
type appStream struct {
	grpc.BidiStreamingServer[api.SessionRequest, api.SessionResponse]
	once   sync.Once
	closed chan struct{}
}

// Close implements session.Stream.
func (s *appStream) Close() { s.once.Do(func() { close(s.closed) }) }

// Get reads one lock.
func (s *API) Get(ctx context.Context, q *api.GetRequest) (*api.GetResponse, error) {
	leave, err := s.counted(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	return s.get(ctx, q)
}

func (s *API) get(ctx context.Context, q *api.GetRequest) (*api.GetResponse, error) {
	if complaint := command.ValidName(q.Lock); complaint != "" {
		return nil, refused(api.Reason_REASON_INVALID, complaint)
	}
	return s.getBy(ctx, &linkpb.Query{Stale: q.Stale, Query: &linkpb.Query_Get{Get: &linkpb.GetLock{Lock: q.Lock}}})
}

// getBy reads one lock by a query of it.
func (s *API) getBy(ctx context.Context, q *linkpb.Query) (*api.GetResponse, error) {
	lock := q.GetGet().GetLock()
	r, err := s.query(ctx, q)
	if err != nil {
		return nil, err
	}
	out := &api.GetResponse{Lock: &api.LockInfo{Name: lock}, Stale: r.Stale, Index: r.Index}
	if len(r.Locks) == 1 {
		out.Lock = apiLock(r.Locks[0])
	}
	return out, nil
}

// List reads a page of the locks that are held or waited for.
func (s *API) List(ctx context.Context, q *api.ListRequest) (*api.ListResponse, error) {
	leave, err := s.counted(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	// What a name cannot match is not compared with every one.
	if len(q.Pattern) > command.NameBytesMax {
		return nil, refused(api.Reason_REASON_INVALID, fmt.Sprintf("pattern: at most %d bytes, as a name", command.NameBytesMax))
	}
	ctx, _, done, err := s.Page(ctx, q.Stale)
	if err != nil {
		return nil, err
	}
	defer done()
	list := &linkpb.ListLocks{
		Prefix: q.Prefix, Pattern: q.Pattern, Owner: q.Owner, Contested: q.Contested,
		After: q.After, Limit: q.Limit,
	}
	for k, v := range q.Metadata {
		list.Metadata = append(list.Metadata, &command.Pair{Key: k, Value: v})
	}
	slices.SortFunc(list.Metadata, func(a, b *command.Pair) int { return strings.Compare(a.Key, b.Key) })
	r, err := s.query(ctx, &linkpb.Query{Stale: q.Stale, Query: &linkpb.Query_List{List: list}})
	if err != nil {
		return nil, err
	}
	out := &api.ListResponse{Next: r.Next, Stale: r.Stale, Index: r.Index}
	for _, l := range r.Locks {
		out.Locks = append(out.Locks, apiLock(l))
	}
	return out, nil
}

// query reads through the leader, or, for a stale read, from a replica.
func (s *API) query(ctx context.Context, q *linkpb.Query) (*linkpb.QueryAnswer, error) {
	if proto.Size(q) > queryBytesMax {
		return nil, refused(api.Reason_REASON_INVALID, "a read's names and metadata have 8 KiB together at most")
	}
	ctx, cancel := bounded(ctx)
	defer cancel()
	if q.Stale && s.a.ClusterID() != "" {
		r, err := s.a.readStale(ctx, q)
		switch {
		case err == nil:
			return r, nil
		case s.a.Reach() != api.Reason_REASON_OK:
			return nil, s.refusal(err, reads)
		}
		// All are too busy, or unknown to gossip; the leader is not.
	}
	r, err := s.a.sessions.Query(ctx, q)
	if err != nil {
		return nil, s.refusal(err, reads)
	}
	return r, nil
}

func bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	return boundedBy(ctx, readTimeout)
}

// boundedBy ends a call before its caller's deadline, or after so long where the
// caller set none.
func boundedBy(ctx context.Context, otherwise time.Duration) (context.Context, context.CancelFunc) {
	deadline, has := ctx.Deadline()
	if !has {
		return context.WithTimeout(ctx, otherwise)
	}
	return context.WithDeadline(ctx, deadline.Add(-min(time.Until(deadline)/10, answerMargin)))
}

func apiLock(l *linkpb.LockInfo) *api.LockInfo {
	out := &api.LockInfo{
		Name: l.Lock, Held: l.Holder != nil, Waiters: l.Waiters, Revoked: l.Revoked, TtlNanos: l.TtlNanos,
		Holder: apiHolder(l.Lock, l.Holder), LeaseLeftNanos: l.LeaseLeftNanos,
	}
	for _, p := range l.Metadata {
		if out.Metadata == nil {
			out.Metadata = make(map[string]string)
		}
		out.Metadata[p.Key] = p.Value
	}
	return out
}

// Admin serves the administrator's socket: the gRPC service
// raftlock.v1.Admin.
type Admin struct {
	api.UnimplementedAdminServer
	s *API
}

// NewAdmin makes the administrator's service.
func NewAdmin(s *API) *Admin { return &Admin{s: s} }

// ForceRelease revokes a hold, or takes it away at once. The holder of now is
// looked up first: the log's command names its token, so that a repetition
// after an unknown outcome hits nobody else.
func (d *Admin) ForceRelease(ctx context.Context, q *api.ForceReleaseRequest) (*api.ForceReleaseResponse, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	held, err := d.s.get(ctx, &api.GetRequest{Lock: q.Lock})
	if err != nil {
		return nil, err
	}
	token := held.Lock.GetHolder().GetToken()
	if token == 0 || q.Token != 0 && q.Token != token {
		return &api.ForceReleaseResponse{}, nil
	}
	r, err := d.s.a.sessions.Propose(ctx, &command.Command{Kind: &command.Command_Revoke{
		Revoke: &command.Revoke{Lock: q.Lock, Token: token, Now: q.Now, By: "administrator"},
	}})
	switch {
	case err != nil:
		return nil, d.s.refusal(err, changes)
	case r.Code == command.Code_CODE_OK:
		d.s.log.Warn("lock force-released", "lock", q.Lock, "token", token, "now", q.Now)
		return &api.ForceReleaseResponse{Held: true, Token: token}, nil
	case r.Code == command.Code_CODE_STALE_TOKEN, r.Code == command.Code_CODE_NOT_FOUND:
		return &api.ForceReleaseResponse{}, nil // given back meanwhile
	}
	return nil, refused(api.Reason_REASON_INVALID, r.Detail)
}

// ForgetFounder gives up a first start whose founder will not return.
func (d *Admin) ForgetFounder(_ context.Context, q *api.ForgetFounderRequest) (*api.ForgetFounderResponse, error) {
	if err := d.s.a.boot.Forget(q.ClusterId); err != nil {
		return nil, d.s.refusal(err, changes)
	}
	d.s.log.Warn("founder forgotten", "cluster", q.ClusterId)
	return &api.ForgetFounderResponse{}, nil
}
