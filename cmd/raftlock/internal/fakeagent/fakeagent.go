// Package fakeagent is an agent for the tests of the command-line tool: the
// contract of the application's and the administrator's sockets, with one
// process's memory where the cluster would be. It exists so that these tests
// need no cluster; it is in no shipped program.
//
// It promises what an application can see when nothing breaks: grants in turn,
// deadlines of 0.98 TTL from a beat's own clock reading, joins, revocation, and
// the end of a session when the last of its processes exits. It does not resume
// sessions, forgets nothing, and trusts its clients.
//
// It owns the goroutines of its gRPC server and one for each process that it
// watches, which Close waits for.
package fakeagent

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	raftlockv1 "github.com/raftlock/raftlock/api/raftlock/v1"
)

// Agent is one fake agent on one socket.
type Agent struct {
	raftlockv1.UnimplementedRaftLockServer
	raftlockv1.UnimplementedAdminServer
	server *grpc.Server
	serves sync.WaitGroup

	mu       sync.Mutex
	changed  chan struct{} // closed and replaced whenever anything changes
	token    uint64
	sessions []*session
	locks    map[string]*lock
	silent   bool
	reach    raftlockv1.Reason // not UNSPECIFIED: acquires are not answered
	refuses  raftlockv1.Reason // not UNSPECIFIED: requests are answered so
	deafTo   func(pid int) bool
	events   []string
	watched  []*os.File      // pidfds
	times    []time.Duration // of the events
	stat     *raftlockv1.StatusResponse
}

type session struct {
	agent  *Agent
	id     []byte
	secret []byte
	ttl    time.Duration
	v      time.Duration
	out    func(*raftlockv1.SessionResponse)
	living []int // the opener and those that joined
	over   bool
}

type lock struct {
	name    string
	holder  *claim
	queue   []*claim
	revoked bool
}

type claim struct {
	s        *session // nil: a stranger, or plain
	seq      uint64
	token    uint64
	priority int32
	owner    string // of plain holds, as the two below
	ttl      time.Duration
	metadata map[string]string
}

// Listen starts an agent on the socket.
func Listen(socket string) (*Agent, error) {
	lis, err := net.Listen("unix", socket)
	if err != nil {
		return nil, err
	}
	a := &Agent{server: grpc.NewServer(grpc.Creds(peers{})), changed: make(chan struct{}), locks: map[string]*lock{},
		stat: &raftlockv1.StatusResponse{ClusterId: "fake", Reach: raftlockv1.Reason_REASON_OK}}
	raftlockv1.RegisterRaftLockServer(a.server, a)
	raftlockv1.RegisterAdminServer(a.server, a)
	a.serves.Go(func() { _ = a.server.Serve(lis) })
	return a, nil
}

// Close stops the agent at once and waits for it.
func (a *Agent) Close() {
	a.server.Stop()
	a.mu.Lock()
	for _, process := range a.watched {
		_ = process.Close()
	}
	a.mu.Unlock()
	a.serves.Wait()
}

// Clock reads CLOCK_BOOTTIME.
func Clock() time.Duration {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts)
	return time.Duration(ts.Nano())
}

// Await blocks until cond, which is called with the agent's mutex held after
// every change, is true or ctx ends.
func (a *Agent) Await(ctx context.Context, cond func(events []string) bool) error {
	for {
		a.mu.Lock()
		met, changed, seen := cond(a.events), a.changed, slices.Clone(a.events)
		a.mu.Unlock()
		if met {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("%w; so far: %q", ctx.Err(), seen)
		}
	}
}

// Events lists what happened: "open", "join", "grant a 1", "wait a",
// "release a 1", "cancel", "end".
func (a *Agent) Events() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.events)
}

// When tells when an event came last, by the clock; 0 if it did not.
func (a *Agent) When(event string) time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	for i, e := range slices.Backward(a.events) {
		if e == event {
			return a.times[i]
		}
	}
	return 0
}

// Processes are those of the newest session that live: the opener first, then
// those that joined.
func (a *Agent) Processes() []int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.sessions[len(a.sessions)-1].living)
}

// note must be called with the mutex held.
func (a *Agent) note(format string, args ...any) {
	a.events = append(a.events, fmt.Sprintf(format, args...))
	a.times = append(a.times, Clock())
	close(a.changed)
	a.changed = make(chan struct{})
}

// Silence stops the telling of leases, and returns the latest deadline that
// was told to any session.
func (a *Agent) Silence() time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.silent = true
	v := time.Duration(0)
	for _, s := range a.sessions {
		v = max(v, s.v)
	}
	return v
}

// LoseReach leaves acquires unanswered from now on, for the reason.
func (a *Agent) LoseReach(reason raftlockv1.Reason) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.reach = reason
	a.stat = &raftlockv1.StatusResponse{ClusterId: "fake", Reach: reason}
}

// IgnoreJoins leaves the joins of some processes unanswered.
func (a *Agent) IgnoreJoins(of func(pid int) bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.deafTo = of
}

// StrangerTakes lets somebody else take the lock or queue for it.
func (a *Agent) StrangerTakes(name string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.take(&claim{}, name, false)
}

// StrangerLeaves gives up what a stranger holds.
func (a *Agent) StrangerLeaves(name string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if l := a.lock(name); l.holder != nil && l.holder.s == nil {
		a.free(l)
	}
}

// Revoke marks the hold of a lock, and returns its deadline.
func (a *Agent) Revoke(name string) time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	l := a.lock(name)
	l.revoked = true
	a.note("revoke %s", name)
	a.update(l.holder, name)
	return l.holder.s.v
}

// EndSessions ends all sessions as if their leases had run out.
func (a *Agent) EndSessions() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, s := range a.sessions {
		a.end(s, raftlockv1.Reason_REASON_EXPIRED)
	}
}

// SetStatus sets what Status answers.
func (a *Agent) SetStatus(s *raftlockv1.StatusResponse) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.stat = s
}

// Session serves one stream.
func (a *Agent) Session(stream raftlockv1.RaftLock_SessionServer) error {
	var sending sync.Mutex
	out := func(m *raftlockv1.SessionResponse) {
		sending.Lock()
		defer sending.Unlock()
		_ = stream.Send(m)
	}
	var mine *session
	who := callerOf(stream.Context())
	for {
		m, err := stream.Recv()
		if err != nil {
			return nil
		}
		a.mu.Lock()
		mine = a.handle(mine, m, out, who)
		a.mu.Unlock()
	}
}

func (a *Agent) handle(s *session, m *raftlockv1.SessionRequest, out func(*raftlockv1.SessionResponse), who caller) *session {
	switch r := m.Request.(type) {
	case *raftlockv1.SessionRequest_Open:
		s = &session{agent: a, id: r.Open.Session, secret: r.Open.Secret, ttl: time.Duration(r.Open.TtlNanos), out: out}
		a.sessions = append(a.sessions, s)
		s.v = time.Duration(r.Open.ClockNanos) + s.ttl/100*98
		a.watch(s, who)
		a.note("open")
		s.attached(r.Open.Seq)
	case *raftlockv1.SessionRequest_Join:
		return a.join(r.Join, out, who)
	case *raftlockv1.SessionRequest_Beat:
		if s != nil && !a.silent && !s.over {
			s.v = max(s.v, time.Duration(r.Beat.ClockNanos)+s.ttl/100*98)
			out(&raftlockv1.SessionResponse{Response: &raftlockv1.SessionResponse_Lease{
				Lease: &raftlockv1.Lease{DeadlineNanos: uint64(s.v), ClockNanos: uint64(Clock())}}})
		}
	case *raftlockv1.SessionRequest_Acquire:
		if a.reach != raftlockv1.Reason_REASON_UNSPECIFIED {
			out(&raftlockv1.SessionResponse{Response: &raftlockv1.SessionResponse_Reach{Reach: &raftlockv1.Reach{Reason: a.reach}}})
			break
		}
		a.acquire(s, r.Acquire)
	case *raftlockv1.SessionRequest_Cancel:
		a.cancel(s, r.Cancel.Target)
	case *raftlockv1.SessionRequest_Release:
		a.release(s, r.Release)
	case *raftlockv1.SessionRequest_End:
		a.end(s, raftlockv1.Reason_REASON_SESSION_ENDED)
	}
	return s
}

func (s *session) attached(seq uint64) {
	s.out(&raftlockv1.SessionResponse{Response: &raftlockv1.SessionResponse_Attached{Attached: &raftlockv1.Attached{
		Seq: seq, Reason: raftlockv1.Reason_REASON_OK, DeadlineNanos: uint64(s.v), TtlNanos: uint64(s.ttl), ClockNanos: uint64(Clock())}}})
}

func (a *Agent) join(j *raftlockv1.Join, out func(*raftlockv1.SessionResponse), who caller) *session {
	for _, s := range a.sessions {
		if bytes.Equal(s.id, j.Session) && bytes.Equal(s.secret, j.Secret) && !s.over {
			a.watch(s, who)
			a.note("join")
			if a.deafTo == nil || !a.deafTo(who.pid) {
				(&session{out: out, v: s.v, ttl: s.ttl}).attached(0)
			}
			return nil
		}
	}
	out(&raftlockv1.SessionResponse{Response: &raftlockv1.SessionResponse_Attached{Attached: &raftlockv1.Attached{
		Reason: raftlockv1.Reason_REASON_DENIED, Detail: "no such session", ClockNanos: uint64(Clock())}}})
	return nil
}

func (a *Agent) lock(name string) *lock {
	if a.locks[name] == nil {
		a.locks[name] = &lock{name: name}
	}
	return a.locks[name]
}

func (a *Agent) acquire(s *session, q *raftlockv1.Acquire) {
	if a.refuses != raftlockv1.Reason_REASON_UNSPECIFIED {
		a.note("refuse")
		s.out(&raftlockv1.SessionResponse{Response: &raftlockv1.SessionResponse_Answer{
			Answer: &raftlockv1.Answer{Seq: q.Seq, Reason: a.refuses}}})
		return
	}
	c := &claim{s: s, seq: q.Seq, priority: q.Priority}
	granted := a.take(c, q.Lock, q.Try)
	answer := &raftlockv1.Answer{Seq: q.Seq, Reason: raftlockv1.Reason_REASON_OK, Standing: a.standing(c, q.Lock)}
	if !granted && q.Try {
		answer.Reason = raftlockv1.Reason_REASON_HELD
		answer.Standing.State, answer.Standing.Reason = raftlockv1.Standing_STATE_GONE, answer.Reason
	}
	s.out(&raftlockv1.SessionResponse{Response: &raftlockv1.SessionResponse_Answer{Answer: answer}})
}

func (a *Agent) take(c *claim, name string, try bool) bool {
	l := a.lock(name)
	switch {
	case l.holder == nil:
		a.grant(l, c)
		return true
	case !try:
		l.queue = append(l.queue, c)
		slices.SortStableFunc(l.queue, func(x, y *claim) int { return int(y.priority - x.priority) })
		a.note("wait %s", name)
	}
	return false
}

func (a *Agent) grant(l *lock, c *claim) {
	a.token++
	c.token = a.token
	l.holder, l.revoked = c, false
	a.note("grant %s %d", l.name, c.token)
}

// free gives the lock to the next.
func (a *Agent) free(l *lock) {
	a.note("release %s %d", l.name, l.holder.token)
	l.holder = nil
	if len(l.queue) > 0 {
		next := l.queue[0]
		l.queue = l.queue[1:]
		a.grant(l, next)
		a.update(next, l.name)
	}
}

func (a *Agent) standing(c *claim, name string) *raftlockv1.Standing {
	st := &raftlockv1.Standing{Seq: c.seq, Lock: name, State: raftlockv1.Standing_STATE_WAITING}
	if l := a.lock(name); l.holder == c {
		st.State, st.Token, st.Revoked = raftlockv1.Standing_STATE_HELD, c.token, l.revoked
		if c.s != nil {
			st.DeadlineNanos = uint64(c.s.v)
		}
	}
	return st
}

func (a *Agent) update(c *claim, name string) {
	if c.s != nil {
		a.tell(c.s, a.standing(c, name))
	}
}

func (a *Agent) tell(s *session, st *raftlockv1.Standing) {
	s.out(&raftlockv1.SessionResponse{Response: &raftlockv1.SessionResponse_Update{Update: &raftlockv1.Update{Standing: st}}})
}

func (a *Agent) cancel(s *session, seq uint64) {
	a.leave(s, func(c *claim) bool { return c.seq == seq })
	a.note("cancel")
	a.tell(s, &raftlockv1.Standing{Seq: seq, State: raftlockv1.Standing_STATE_GONE, Reason: raftlockv1.Reason_REASON_CANCELLED})
}

func (a *Agent) release(s *session, r *raftlockv1.Release) {
	a.leave(s, func(c *claim) bool { return c.seq == r.Hold })
	if r.Seq != 0 {
		s.out(&raftlockv1.SessionResponse{Response: &raftlockv1.SessionResponse_Answer{
			Answer: &raftlockv1.Answer{Seq: r.Seq, Reason: raftlockv1.Reason_REASON_OK}}})
	}
	a.tell(s, &raftlockv1.Standing{Seq: r.Hold, State: raftlockv1.Standing_STATE_GONE, Reason: raftlockv1.Reason_REASON_RELEASED})
}

func (a *Agent) end(s *session, reason raftlockv1.Reason) {
	if s == nil || s.over {
		return
	}
	s.over = true
	a.leave(s, func(*claim) bool { return true })
	a.note("end")
	s.out(&raftlockv1.SessionResponse{Response: &raftlockv1.SessionResponse_Ended{Ended: &raftlockv1.Ended{Reason: reason}}})
}

func (a *Agent) leave(s *session, which func(*claim) bool) {
	for _, l := range a.locks {
		l.queue = slices.DeleteFunc(l.queue, func(c *claim) bool { return c.s == s && which(c) })
		if l.holder != nil && l.holder.s == s && which(l.holder) {
			a.free(l)
		}
	}
}

func (a *Agent) info(l *lock) *raftlockv1.LockInfo {
	i := &raftlockv1.LockInfo{Name: l.name, Waiters: uint64(len(l.queue)), Revoked: l.revoked}
	if c := l.holder; c != nil {
		i.Held, i.Holder = true, &raftlockv1.Holder{Owner: cmp.Or(c.owner, "stranger"), Agent: "fake", Token: c.token}
		i.TtlNanos, i.Metadata = uint64(c.ttl), c.metadata
		if c.s != nil {
			i.Holder.Owner, i.Holder.Session, i.TtlNanos = "uid:1000", c.s.id, uint64(c.s.ttl)
		}
	}
	return i
}

// Get reads a lock.
func (a *Agent) Get(_ context.Context, r *raftlockv1.GetRequest) (*raftlockv1.GetResponse, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return &raftlockv1.GetResponse{Lock: a.info(a.lock(r.Lock)), Stale: r.Stale}, nil
}

// List lists by prefix, owner and contest; two a page, so that pages are used.
func (a *Agent) List(_ context.Context, r *raftlockv1.ListRequest) (*raftlockv1.ListResponse, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	var names []string
	for name, l := range a.locks {
		i := a.info(l)
		if len(name) >= len(r.Prefix) && name[:len(r.Prefix)] == r.Prefix && name > r.After && i.Held &&
			(r.Owner == "" || r.Owner == i.Holder.Owner) && (!r.Contested || i.Waiters > 0) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	resp := &raftlockv1.ListResponse{Stale: r.Stale}
	for _, name := range names[:min(2, len(names))] {
		resp.Locks = append(resp.Locks, a.info(a.locks[name]))
	}
	if len(names) > 2 {
		resp.Next = names[1]
	}
	return resp, nil
}

// Status answers what SetStatus set, or as Refuse wants.
func (a *Agent) Status(context.Context, *raftlockv1.StatusRequest) (*raftlockv1.StatusResponse, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.refusal(); err != nil {
		return nil, err
	}
	return a.stat, nil
}

// ForceRelease revokes, or takes at once.
func (a *Agent) ForceRelease(_ context.Context, r *raftlockv1.ForceReleaseRequest) (*raftlockv1.ForceReleaseResponse, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	l := a.lock(r.Lock)
	if l.holder == nil || r.Token != 0 && r.Token != l.holder.token {
		return &raftlockv1.ForceReleaseResponse{}, nil
	}
	c := l.holder
	if r.Now {
		a.free(l)
		return &raftlockv1.ForceReleaseResponse{Held: true, Token: c.token}, nil
	}
	l.revoked = true
	a.note("revoke %s", l.name)
	a.update(c, l.name)
	return &raftlockv1.ForceReleaseResponse{Held: true, Token: c.token}, nil
}

// ForgetFounder knows one cluster, "c0ffee".
func (a *Agent) ForgetFounder(_ context.Context, r *raftlockv1.ForgetFounderRequest) (*raftlockv1.ForgetFounderResponse, error) {
	if r.ClusterId != "c0ffee" {
		return nil, status.Error(codes.NotFound, "no such list")
	}
	return &raftlockv1.ForgetFounderResponse{}, nil
}
