package session

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	api "github.com/raftlock/raftlock/api/raftlock/v1"
	"github.com/raftlock/raftlock/fsm/command"
	"github.com/raftlock/raftlock/link"
	"github.com/raftlock/raftlock/link/linkpb"
)

// side is a Host whose clock, link and applications are played by a script:
// nothing moves unless the script says so, and Tick is called by it alone.
type side struct {
	t     *testing.T
	h     *Host
	clock struct {
		sync.Mutex
		now time.Duration
	}
	link   *wire
	served sync.WaitGroup
	apps   []*app
}

// wire is one link as the Host sees it.
type wire struct {
	mu   sync.Mutex
	sent []*link.Up
}

func (w *wire) Send(f *link.Up) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sent = append(w.sent, f)
}

// holdersSide runs a script on a Host that has a link, at 1000 s of its clock.
func holdersSide(t *testing.T, script func(*testing.T, *side)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &side{t: t}
		s.clock.now = 1000 * time.Second
		s.start(7)
		defer func() { s.stop() }()
		script(t, s)
	})
}

// start begins an incarnation of the agent, and links it.
func (s *side) start(incarnation uint64) {
	s.h = New(Config{
		Agent: "a", Incarnation: incarnation, Clock: s.now, Log: slog.New(slog.DiscardHandler), Wake: func() {},
	})
	s.h.SetReach(api.Reason_REASON_OK)
	s.relink()
}

// stop ends the incarnation and the streams it served.
func (s *side) stop() {
	s.h.Close()
	for _, a := range s.apps {
		a.Close()
	}
	s.served.Wait()
	for i, a := range s.apps {
		if n := a.released.Load(); n != 1 {
			s.t.Errorf("peer %d was released %d times", i, n)
		}
	}
	s.apps = nil
}

// restart is an agent that dies and begins anew, knowing nothing.
func (s *side) restart(incarnation uint64) {
	s.stop()
	s.start(incarnation)
}

func (s *side) relink() {
	s.link = &wire{}
	s.h.LinkUp(s.link)
}

func (s *side) now() time.Duration {
	s.clock.Lock()
	defer s.clock.Unlock()
	return s.clock.now
}

// pass lets time pass without anybody looking.
func (s *side) pass(d time.Duration) {
	s.clock.Lock()
	defer s.clock.Unlock()
	s.clock.now += d
}

// frames takes what the Host has sent since the last call.
func (s *side) frames() []*link.Up {
	synctest.Wait()
	s.link.mu.Lock()
	defer s.link.mu.Unlock()
	out := s.link.sent
	s.link.sent = nil
	return out
}

// proposals are the proposals among frames not taken yet.
func (s *side) proposals() (out []*linkpb.Propose) {
	for _, f := range s.frames() {
		if p := f.GetPropose(); p != nil {
			out = append(out, p)
		}
	}
	return out
}

// proposal is the one proposal among them.
func (s *side) proposal() *linkpb.Propose {
	s.t.Helper()
	all := s.proposals()
	if len(all) != 1 {
		s.t.Fatalf("%d proposals, want one: %v", len(all), all)
	}
	return all[0]
}

// beat ticks, which must beat, and returns the heartbeat.
func (s *side) beat() *linkpb.Beat {
	s.t.Helper()
	s.h.mu.Lock()
	s.h.urgent = true
	s.h.mu.Unlock()
	s.h.Tick()
	for _, f := range s.frames() {
		if b := f.GetBeat(); b != nil {
			return b
		}
	}
	s.t.Fatal("no heartbeat")
	return nil
}

func (s *side) down(frames ...*link.Down) {
	s.h.Receive(frames)
	synctest.Wait()
}

func (s *side) confirmed(b *linkpb.Beat) {
	s.down(&link.Down{Frame: &linkpb.Down_Beat{Beat: &linkpb.BeatAnswer{Number: b.Number}}})
}

// applied answers a proposal; the leader's side confirms where it would.
func (s *side) applied(p *linkpb.Propose, r *command.Result) {
	confirms := p.Command.GetOpen() != nil || p.Command.GetResume() != nil || p.Command.GetReconcile() != nil
	if r.Code == command.Code_CODE_UNSPECIFIED {
		r.Code = command.Code_CODE_OK
	}
	s.down(&link.Down{Frame: &linkpb.Down_Proposed{Proposed: &linkpb.Proposed{
		Id: p.Id, Outcome: linkpb.Proposed_OUTCOME_APPLIED, Result: r, Confirmed: confirms && r.Code == command.Code_CODE_OK,
	}}})
}

func (s *side) notice(a *app, n *linkpb.Notice) {
	n.Session, n.Attachment = a.id[:], a.attachment
	s.down(&link.Down{Frame: &linkpb.Down_Notice{Notice: n}})
}

// app is an application's end of its stream.
type app struct {
	s          *side
	id         ID
	attachment uint64
	ttl        time.Duration
	exited     chan struct{}
	released   atomic.Int32
	nameless   bool // the kernel tells nothing of it but its exit

	in     chan *api.SessionRequest
	closed chan struct{}
	once   sync.Once
	mu     sync.Mutex // guards out
	out    []*api.SessionResponse
}

func (a *app) Send(r *api.SessionResponse) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.out = append(a.out, r)
	return nil
}

func (a *app) Recv() (*api.SessionRequest, error) {
	select {
	case r := <-a.in:
		return r, nil
	case <-a.closed:
		return nil, errors.New("closed")
	}
}

func (a *app) Close() { a.once.Do(func() { close(a.closed) }) }

func (a *app) Process() *command.Process {
	if a.nameless {
		return nil
	}
	return &command.Process{Pid: 1, StartTicks: 1, BootId: "boot"}
}
func (a *app) Identity() string        { return "uid:1" }
func (a *app) Exited() <-chan struct{} { return a.exited }
func (a *app) Release()                { a.released.Add(1) }
func (a *app) Same(p Peer) bool {
	o, ok := p.(*app)
	return ok && o.exited == a.exited
}

// connect gives the process a new stream.
func (s *side) connect(of *app) *app {
	a := &app{
		s: s, id: ID{1}, exited: make(chan struct{}),
		in: make(chan *api.SessionRequest, 16), closed: make(chan struct{}),
	}
	if of != nil {
		a.id, a.exited, a.ttl, a.attachment = of.id, of.exited, of.ttl, of.attachment
	}
	s.serve(a)
	return a
}

func (s *side) serve(a *app) {
	s.apps = append(s.apps, a)
	h := s.h
	s.served.Go(func() { _ = h.Serve(context.Background(), a, a) })
}

func (a *app) say(r *api.SessionRequest) {
	a.in <- r
	synctest.Wait()
}

var secret = make([]byte, 32)

func (a *app) open(seq uint64, ttl time.Duration) {
	a.ttl = ttl
	a.say(&api.SessionRequest{Request: &api.SessionRequest_Open{Open: &api.Open{
		Session: a.id[:], Secret: secret, Seq: seq, TtlNanos: uint64(ttl), ClockNanos: uint64(a.s.now()),
	}}})
}

func (a *app) resume(seq uint64, deadline time.Duration) {
	a.say(&api.SessionRequest{Request: &api.SessionRequest_Resume{Resume: &api.Resume{
		Session: a.id[:], Secret: secret, Seq: seq, TtlNanos: uint64(a.ttl),
		ClockNanos: uint64(a.s.now()), DeadlineNanos: uint64(deadline),
	}}})
}

func (a *app) acquire(seq uint64, lock string) {
	a.say(&api.SessionRequest{Request: &api.SessionRequest_Acquire{Acquire: &api.Acquire{Seq: seq, Lock: lock}}})
}

func (a *app) setTTL(seq uint64, ttl time.Duration) {
	a.say(&api.SessionRequest{Request: &api.SessionRequest_SetTtl{SetTtl: &api.SetTTL{Seq: seq, TtlNanos: uint64(ttl)}}})
}

func (a *app) list(next uint64, named ...*api.Belief) {
	a.say(&api.SessionRequest{Request: &api.SessionRequest_Reconcile{Reconcile: &api.Reconcile{Next: next, Named: named}}})
}

func (a *app) beat() {
	a.say(&api.SessionRequest{Request: &api.SessionRequest_Beat{Beat: &api.Beat{ClockNanos: uint64(a.s.now())}}})
}

// heard takes what the application was told since the last call.
func (a *app) heard() []*api.SessionResponse {
	synctest.Wait()
	a.mu.Lock()
	defer a.mu.Unlock()
	out := a.out
	a.out = nil
	return out
}

// opened is an application with an open session, answered at once.
func (s *side) opened(ttl time.Duration) *app {
	s.t.Helper()
	a := s.connect(nil)
	a.open(1, ttl)
	s.attached(a, s.proposal(), 1)
	a.heard()
	return a
}

func (s *side) attached(a *app, p *linkpb.Propose, attachment uint64) {
	a.attachment = attachment
	s.applied(p, &command.Result{Attachment: attachment, Incarnation: s.h.cfg.Incarnation, TtlNanos: uint64(a.ttl)})
}

// holds acquires for the application and answers that it holds.
func (s *side) holds(a *app, seq uint64, lock string, token uint64) {
	s.t.Helper()
	a.acquire(seq, lock)
	s.applied(s.proposal(), held(seq, lock, token))
	a.heard()
}

func held(seq uint64, lock string, token uint64) *command.Result {
	return &command.Result{Standings: []*command.Standing{heldStanding(seq, lock, token)}}
}

func heldStanding(seq uint64, lock string, token uint64) *command.Standing {
	return &command.Standing{Seq: seq, State: command.Standing_STATE_HELD, Lock: lock, Token: token}
}

// gone finds the news that an acquire is gone, and where in all it stands.
func gone(all []*api.SessionResponse, seq uint64) (at int, why api.Reason) {
	for i, r := range all {
		for _, st := range append(r.GetReconciled().GetStandings(), r.GetUpdate().GetStanding(), r.GetAnswer().GetStanding()) {
			if st != nil && st.Seq == seq && st.State == api.Standing_STATE_GONE {
				return i, st.Reason
			}
		}
	}
	return -1, 0
}

// renewal finds the newest deadline told, and where in all it was told first.
func renewal(all []*api.SessionResponse) (at int, deadline time.Duration) {
	at = -1
	for i, r := range all {
		if l := r.GetLease(); l != nil {
			if at < 0 {
				at = i
			}
			deadline = time.Duration(l.DeadlineNanos)
		}
	}
	return at, deadline
}
