package sim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/raftlock/raftlock/agent/session"
	api "github.com/raftlock/raftlock/api/raftlock/v1"
	"github.com/raftlock/raftlock/fsm/command"
	raftlock "github.com/raftlock/raftlock/sdk/go"
)

// errExited: the application's process is gone.
var errExited = errors.New("process exited")

// App is one application process on a member's host, with the SDK that ships.
type App struct {
	Name string
	m    *Member
	pid  int32

	ctx    context.Context // ends with the process
	cancel context.CancelFunc
	exited chan struct{}

	mu      sync.Mutex // guards the rest
	session *raftlock.Session
	opens   int
	ttl     time.Duration // the longest that this session asked for
	handles []*Handle
	waiting int // Lock calls under way
	streams map[*Pipe[*api.SessionRequest, *api.SessionResponse]]struct{}
	gate    chan struct{} // non-nil while stopped, closed by Continue
	stirred time.Duration // the last Stop or Continue
	owned   sync.WaitGroup
}

// Handle is one granted lock of an App, as its checkers see it.
type Handle struct {
	App   *App
	Lock  *raftlock.Lock
	Name  string
	Token uint64

	mu       sync.Mutex // guards the rest
	unlocked bool       // given up by the application itself
}

func (h *Handle) grant() (holder, lock string, token uint64) { return h.App.Name, h.Name, h.Token }

// StartApp starts a process on m's host. It opens nothing yet.
func (c *Cluster) StartApp(m *Member, name string) *App {
	ctx, cancel := context.WithCancel(context.Background()) // ended by Kill
	c.mu.Lock()
	a := &App{
		Name: name, m: m, pid: int32(1000 + len(c.apps)), ctx: ctx, cancel: cancel,
		exited: make(chan struct{}), streams: make(map[*Pipe[*api.SessionRequest, *api.SessionResponse]]struct{}),
	}
	c.apps = append(c.apps, a)
	c.mu.Unlock()
	return a
}

// Apps are all processes ever started.
func (c *Cluster) Apps() []*App {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]*App(nil), c.apps...)
}

// Open opens the process's one session.
func (a *App) Open(ctx context.Context, ttl time.Duration) error {
	ctx, cancel := a.within(ctx)
	defer cancel()
	a.mu.Lock()
	a.opens++
	purpose := fmt.Sprintf("app/%s/%d", a.Name, a.opens)
	a.mu.Unlock()
	random := &noted{Reader: randReader{a.m.c.W.Rand(purpose)}}
	s, err := raftlock.NewSession(ctx,
		raftlock.WithDialer(a.dial), raftlock.WithClock(a.m.Host.Clock()), raftlock.WithTTL(ttl),
		raftlock.WithRand(random), raftlock.WithTracerProvider(a.m.c.cfg.Traces))
	if err != nil {
		return err
	}
	a.mu.Lock()
	a.session, a.ttl = s, ttl
	a.mu.Unlock()
	a.m.c.Checks.opened(random.first, a, s)
	return nil
}

// Join makes the process one of another's session, for as long as it lives.
func (a *App) Join(ctx context.Context, of *App) error {
	ctx, cancel := a.within(ctx)
	defer cancel()
	client, err := raftlock.Dial(ctx, raftlock.WithDialer(a.dial), raftlock.WithClock(a.m.Host.Clock()))
	if err != nil {
		return err
	}
	member, err := client.Join(ctx, of.Session().Pass())
	if err != nil {
		return err
	}
	a.owned.Go(func() {
		<-a.ctx.Done()
		member.Close()
	})
	return nil
}

// SetTTL changes the session's TTL.
func (a *App) SetTTL(ctx context.Context, ttl time.Duration) error {
	ctx, cancel := a.within(ctx)
	defer cancel()
	a.mu.Lock()
	s := a.session
	a.ttl = max(a.ttl, ttl)
	a.mu.Unlock()
	return s.SetTTL(ctx, ttl)
}

// noted keeps the first 16 bytes that were read: the session's id.
type noted struct {
	io.Reader
	once  sync.Once
	first [16]byte
}

func (n *noted) Read(p []byte) (int, error) {
	k, err := n.Reader.Read(p)
	n.once.Do(func() { copy(n.first[:], p[:k]) })
	return k, err
}

// Stop is SIGSTOP as far as anybody outside can see: nothing leaves the process
// and nothing enters it until Continue. What it believes goes by its clock.
// False: it was stopped already, and goes on when whoever stopped it says so.
func (a *App) Stop() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.gate != nil {
		return false
	}
	a.gate = make(chan struct{})
	a.stirred = a.m.c.W.Now()
	return true
}

// Continue undoes Stop.
func (a *App) Continue() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.gate != nil {
		close(a.gate)
		a.gate = nil
	}
	a.stirred = a.m.c.W.Now()
}

// running waits while the process is stopped.
func (a *App) running() {
	for {
		a.mu.Lock()
		gate := a.gate
		a.mu.Unlock()
		if gate == nil {
			return
		}
		select {
		case <-gate:
		case <-a.ctx.Done():
			return
		}
	}
}

// within ends a call's context with the process.
func (a *App) within(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(a.ctx, cancel)
	return ctx, func() { stop(); cancel() }
}

// Session is the open session, or nil.
func (a *App) Session() *raftlock.Session {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.session
}

// dial connects to the agent of the app's host, as a Unix socket would.
func (a *App) dial(context.Context) (raftlock.Stream, error) {
	if a.ctx.Err() != nil {
		return nil, errExited
	}
	ag := a.m.Agent()
	if ag == nil || !a.m.Host.Up() {
		return nil, ErrConnectionRefused
	}
	client, server := NewPipe[*api.SessionRequest, *api.SessionResponse](a.m.Host, a.Name)
	a.mu.Lock()
	a.streams[client] = struct{}{}
	a.mu.Unlock()
	host := a.m.Host.Context()
	a.owned.Go(func() {
		// The agent's end: it returns when the stream breaks.
		_ = ag.Sessions().Serve(host, serverStream{server}, process{a})
	})
	return clientStream{a, client}, nil
}

type clientStream struct {
	a *App
	p *Pipe[*api.SessionRequest, *api.SessionResponse]
}

func (s clientStream) Send(r *api.SessionRequest) error {
	s.a.running()
	return s.p.Send(r)
}

func (s clientStream) Recv() (*api.SessionResponse, error) {
	m, err := s.p.Recv()
	s.a.running()
	return m, err
}

func (s clientStream) Close() error {
	s.a.mu.Lock()
	delete(s.a.streams, s.p)
	s.a.mu.Unlock()
	s.p.Close()
	return nil
}

type serverStream struct {
	p *Pipe[*api.SessionResponse, *api.SessionRequest]
}

func (s serverStream) Send(r *api.SessionResponse) error  { return s.p.Send(r) }
func (s serverStream) Recv() (*api.SessionRequest, error) { return s.p.Recv() }
func (s serverStream) Close()                             { s.p.Close() }

// process is what the kernel says of an App; it implements session.Peer.
type process struct{ a *App }

func (p process) Process() *command.Process {
	return &command.Process{Pid: p.a.pid, StartTicks: uint64(p.a.pid), BootId: p.a.m.Host.Name, Id: 1}
}
func (p process) Identity() string { return "uid:1000" }
func (p process) Same(o session.Peer) bool {
	q, ok := o.(process)
	return ok && q.a == p.a
}
func (p process) Exited() <-chan struct{} { return p.a.exited }
func (p process) Release()                {}

// gone is what the kernel of m's host says of a process in the log: of other
// hosts it knows nothing.
func (m *Member) gone(p *command.Process) bool {
	if p.BootId != m.Host.Name {
		return false
	}
	for _, a := range m.c.Apps() {
		if a.m == m && a.pid == p.Pid {
			return !a.Alive()
		}
	}
	return true
}

// Lock acquires and waits; the handle is known to the checkers from then on.
func (a *App) Lock(ctx context.Context, name string, opts ...raftlock.LockOption) (*Handle, error) {
	return a.acquire(ctx, name, func(ctx context.Context, s *raftlock.Session) (*raftlock.Lock, error) {
		return s.Lock(ctx, name, opts...)
	})
}

// TryLock acquires or fails at once.
func (a *App) TryLock(ctx context.Context, name string) (*Handle, error) {
	return a.acquire(ctx, name, func(ctx context.Context, s *raftlock.Session) (*raftlock.Lock, error) {
		return s.TryLock(ctx, name)
	})
}

func (a *App) acquire(ctx context.Context, name string, do func(context.Context, *raftlock.Session) (*raftlock.Lock, error)) (*Handle, error) {
	s := a.Session()
	if s == nil {
		return nil, fmt.Errorf("%s has no session", a.Name)
	}
	ctx, cancel := a.within(ctx)
	defer cancel()
	a.mu.Lock()
	a.waiting++
	a.mu.Unlock()
	l, err := do(ctx, s)
	a.mu.Lock()
	a.waiting--
	a.mu.Unlock()
	a.ended(ctx, "lock "+name)
	if err != nil {
		return nil, err
	}
	token, err := l.Token()
	if err != nil {
		return nil, err
	}
	h := &Handle{App: a, Lock: l, Name: name, Token: token}
	a.mu.Lock()
	a.handles = append(a.handles, h)
	a.mu.Unlock()
	a.m.c.Checks.granted(h)
	context.AfterFunc(l.Context(), func() { a.m.c.Checks.lost(h) })
	a.m.c.W.Logf("%s holds %s with token %d", a.Name, name, token)
	return h, nil
}

// Unlock gives the lock up. From the call on the application does not use it.
func (h *Handle) Unlock(ctx context.Context) error {
	h.mu.Lock()
	h.unlocked = true
	h.mu.Unlock()
	ctx, cancel := h.App.within(ctx)
	defer cancel()
	err := h.Lock.Unlock(ctx)
	h.App.ended(ctx, "unlock "+h.Name)
	if err == nil {
		h.App.m.c.Checks.released(h.Token)
	}
	return err
}

// overrunMax is how much later than its context a call may end.
const overrunMax = 50 * time.Millisecond

// ended holds a call to its context.
func (a *App) ended(ctx context.Context, what string) {
	if d, ok := ctx.Deadline(); ok && ctx.Err() != nil && a.Alive() && time.Since(d) > overrunMax {
		a.m.c.W.Fail("%s: %s ended %v after its context", a.Name, what, time.Since(d))
	}
}

// Valid is what the application would see now: a dead one sees nothing.
func (h *Handle) Valid() bool {
	h.mu.Lock()
	unlocked := h.unlocked
	h.mu.Unlock()
	return !unlocked && h.App.Alive() && h.Lock.Valid()
}

// Alive reports that the process runs.
func (a *App) Alive() bool { return a.ctx.Err() == nil }

// Kill is kill -9: the streams break, the kernel tells the agent, and nothing
// of the process runs any more.
func (a *App) Kill() {
	a.mu.Lock()
	if a.ctx.Err() != nil {
		a.mu.Unlock()
		return
	}
	a.cancel()
	close(a.exited)
	streams := a.streams
	a.streams = nil
	s := a.session
	a.mu.Unlock()
	for p := range streams {
		p.Close()
	}
	if s != nil {
		// The SDK's goroutines are to end; with every dial refused its last
		// words reach nobody.
		a.owned.Go(func() {
			over, cancel := context.WithCancel(context.Background())
			cancel()
			_ = s.Close(over)
		})
	}
}

// wait returns when nothing of the process runs any more.
func (a *App) wait() { a.owned.Wait() }

// Break breaks the process's streams; the process lives and resumes.
func (a *App) Break() {
	a.mu.Lock()
	var streams []*Pipe[*api.SessionRequest, *api.SessionResponse]
	for p := range a.streams {
		streams = append(streams, p)
	}
	a.mu.Unlock()
	for _, p := range streams {
		p.Close()
	}
}
