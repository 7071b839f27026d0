package sim

import (
	"context"
	"errors"
	"time"

	raftlock "github.com/raftlock/raftlock/sdk/go"
)

// framesPatience bounds every call of a story: a lease, an election, and what
// it takes to link and attach anew.
const framesPatience = 10 * time.Second

// frameStory is a short run whose every frame is met by faults. Two
// applications on two forwarders are its people: a and b.
type frameStory struct {
	name string
	// least is how many runs there were when this was written, less a tenth:
	// how raft's messages fall differs from run to run.
	least int
	// prepare runs before the first frame that counts; nil: all frames since
	// the beginning of the world count.
	prepare func(*stage)
	tell    func(*stage)
	// expires: the story leaves a without its agent for about as long as the
	// lease, and its session may end.
	expires bool
	// everyLink counts the frames of all agents' links.
	everyLink bool
	// sampled draws from all frames alike; draws is how many, if not the usual.
	sampled bool
	draws   int
}

func (x frameStory) draw() int {
	if x.draws > 0 {
		return x.draws
	}
	return framesSampled
}

var frameStories = []frameStory{
	{name: "acquire", least: 175, prepare: func(*stage) {}, tell: func(s *stage) {
		s.start()
		s.lock(s.a, "x")
	}},
	{name: "acquire at the leader", least: 235, everyLink: true, prepare: func(*stage) {}, tell: func(s *stage) {
		s.a = s.c.StartApp(s.c.Leader(), "a")
		if s.openAt(s.a) {
			s.unlock(s.lock(s.a, "x"))
		}
	}},
	{name: "hand-off by unlock", least: 128, prepare: func(s *stage) {
		s.heldAndWaited()
	}, tell: func(s *stage) {
		s.unlock(s.held)
		s.await(s.wait)
	}},
	{name: "hand-off by kill", least: 138, prepare: func(s *stage) {
		s.heldAndWaited()
	}, tell: func(s *stage) {
		s.a.Kill()
		s.await(s.wait)
	}},
	{name: "cancel", least: 148, prepare: func(s *stage) {
		s.both()
		s.held = s.c.lock(s.a, "x")
	}, tell: func(s *stage) {
		wait := s.waits(s.b, "x")
		s.pause(100 * time.Millisecond)
		s.ends(wait)
	}},
	{name: "cancel and grant", least: 148, prepare: func(s *stage) {
		s.heldAndWaited()
	}, tell: func(s *stage) {
		unlocked := s.going(func() { s.unlock(s.held) })
		s.pause(time.Millisecond)
		s.ends(s.wait)
		<-unlocked
	}},
	{name: "renew", least: 470, prepare: func(s *stage) {
		s.both()
		s.held = s.c.lock(s.a, "x")
	}, tell: func(s *stage) {
		s.pause(700 * time.Millisecond)
		s.setTTL(s.a, 2*time.Second)
		s.pause(500 * time.Millisecond)
		s.setTTL(s.a, framesTTL)
		s.pause(700 * time.Millisecond)
	}},
	{name: "resume", least: 265, prepare: func(s *stage) {
		s.both()
		s.held = s.c.lock(s.b, "y")
		s.c.lock(s.a, "x")
		s.wait = s.waits(s.a, "y")
		s.queued("y", 1)
	}, tell: func(s *stage) {
		s.a.Break()
		s.lock(s.a, "w")
		s.unlock(s.held)
		s.await(s.wait)
	}},
	{name: "release", least: 168, prepare: func(s *stage) {
		s.both()
		s.held = s.c.lock(s.a, "x")
	}, tell: func(s *stage) {
		s.unlock(s.held)
		s.unlock(s.lock(s.a, "x"))
	}},
	{name: "end", least: 140, prepare: func(s *stage) {
		s.heldAndWaited()
		s.c.lock(s.b, "y")
		s.waits(s.a, "y")
		s.queued("y", 1)
	}, tell: func(s *stage) {
		s.close(s.a)
		s.await(s.wait)
	}},
	{name: "join and two deaths", least: 225, prepare: func(s *stage) {
		s.heldAndWaited()
		s.joins = s.c.StartApp(s.a.m, "joins")
	}, tell: func(s *stage) {
		s.join(s.joins, s.a)
		s.a.Kill()
		s.pause(300 * time.Millisecond)
		s.joins.Kill()
		s.await(s.wait)
	}},
	{name: "expire", least: 200, expires: true, sampled: true, draws: 200, prepare: func(s *stage) {
		s.heldAndWaited()
	}, tell: func(s *stage) {
		s.a.m.Host.Crash()
		s.await(s.wait)
	}},
	{name: "lost and taken anew", least: 200, expires: true, sampled: true, draws: 200, prepare: func(s *stage) {
		s.heldAndWaited()
	}, tell: func(s *stage) {
		// a's agent comes back when V has passed. The session, whose lease a new
		// leader began anew, lives as a rule.
		s.crash(s.c.Leader(), 300*time.Millisecond)
		s.crash(s.a.m, framesTTL+300*time.Millisecond)
		s.await(s.wait)
		s.unlock(s.wait.handle)
		s.lock(s.a, "x")
	}},
	{name: "hand-off across an election", least: 200, sampled: true, draws: 200, prepare: func(s *stage) {
		s.heldAndWaited()
	}, tell: func(s *stage) {
		s.crash(s.c.Leader(), 300*time.Millisecond)
		s.unlock(s.held)
		s.await(s.wait)
	}},
	{name: "bootstrap", least: 300, sampled: true, draws: 300, everyLink: true, tell: func(s *stage) {
		s.start()
		s.lock(s.a, "x")
	}},
}

// stage is one run of a story.
type stage struct {
	c     *Cluster
	story frameStory
	fault FrameFault
	aim   *Aim

	ctx    context.Context // ends with the story
	cancel context.CancelFunc
	a, b   *App
	joins  *App // a further process of a's session
	closed *App // the story closed its session
	held   *Handle
	wait   *framesWait
	all    []*framesWait

	longest  time.Duration // that a call took
	recorded []FrameFault
	frames   int
}

// framesWait is a Lock call under way.
type framesWait struct {
	app    *App
	name   string
	cancel context.CancelFunc
	over   chan struct{} // closed when the call has returned
	handle *Handle
	err    error
}

func (s *stage) begin() {
	s.ctx, s.cancel = context.WithCancel(context.Background())
}

// call bounds one call, and notes how long it took to succeed.
func (s *stage) call() (ctx context.Context, over func(error)) {
	began := s.c.W.Now()
	ctx, cancel := context.WithTimeout(s.ctx, framesPatience)
	return ctx, func(err error) {
		cancel()
		if err == nil {
			s.longest = max(s.longest, s.c.W.Now()-began)
		}
	}
}

// pause lets the story wait; the applications go on.
func (s *stage) pause(d time.Duration) { time.Sleep(d) }

// both opens two applications before the first frame that counts.
func (s *stage) both() {
	s.a = s.c.open(s.c.Forwarders[0], "a", framesTTL)
	s.b = s.c.open(s.c.Forwarders[1], "b", framesTTL)
}

// heldAndWaited: a holds x, and b waits for it.
func (s *stage) heldAndWaited() {
	s.both()
	s.held = s.c.lock(s.a, "x")
	s.wait = s.waits(s.b, "x")
	s.queued("x", 1)
}

func (s *stage) queued(name string, n uint64) {
	s.c.Wait(5*time.Second, "waiter in the queue", func() bool { return s.c.waiters(name) == n })
}

// start opens a within the story.
func (s *stage) start() {
	s.a = s.c.StartApp(s.c.Forwarders[0], "a")
	s.openAt(s.a)
}

func (s *stage) openAt(a *App) bool {
	ctx, over := s.call()
	err := a.Open(ctx, framesTTL)
	over(err)
	s.owes(a, err, "a session")
	return err == nil
}

// join makes a a process of another's session.
func (s *stage) join(a, of *App) {
	ctx, over := s.call()
	err := a.Join(ctx, of)
	over(err)
	if of.Alive() && of.Session().Err() == nil {
		s.owes(a, err, "a part in the session of "+of.Name)
	}
}

// owes fails the run where a call of an application had no reason to fail: it
// lives, and so does its agent, by now at least.
func (s *stage) owes(a *App, err error, what string) {
	if err == nil || !a.Alive() || !a.m.Host.Up() || s.stalls() {
		return
	}
	if session := a.Session(); session != nil && session.Err() != nil && s.cutOff(a) {
		return
	}
	s.c.W.Fail("%s lives, and did not get %s: %v", a.Name, what, err)
}

// stalls: a founder that died holding promises is waited for.
func (s *stage) stalls() bool {
	hit := s.aim.Hit()
	killed := s.fault.Action == KillFrom || s.fault.Action == KillFromSent || s.fault.Action == KillTo
	return s.story.prepare == nil && hit != nil && killed && !s.fault.Relink
}

// lock acquires; a grant that came too late to be used is asked for again.
func (s *stage) lock(a *App, name string) *Handle {
	if a.Session() == nil {
		return nil
	}
	ctx, over := s.call()
	for {
		h, err := a.Lock(ctx, name)
		if errors.Is(err, raftlock.ErrLost) && ctx.Err() == nil && a.Session().Err() == nil {
			continue
		}
		over(err)
		s.owes(a, err, name)
		return h
	}
}

// waits begins a wait.
func (s *stage) waits(a *App, name string) *framesWait {
	ctx, cancel := context.WithCancel(s.ctx)
	w := &framesWait{app: a, name: name, cancel: cancel, over: make(chan struct{})}
	s.all = append(s.all, w)
	a.owned.Go(func() {
		defer close(w.over)
		defer cancel()
		for {
			w.handle, w.err = a.Lock(ctx, name)
			if !errors.Is(w.err, raftlock.ErrLost) || ctx.Err() != nil || a.Session().Err() != nil {
				return
			}
		}
	})
	return w
}

// ends waits for the end of a wait whose context is over.
func (s *stage) ends(w *framesWait) {
	w.cancel()
	select {
	case <-w.over:
	case <-time.After(time.Second):
		s.c.Fatal("%s's wait for %s does not end", w.app.Name, w.name)
	}
}

// await waits for a wait that must be granted, unless its application or its
// agent died.
func (s *stage) await(w *framesWait) {
	ctx, over := s.call()
	select {
	case <-w.over:
	case <-ctx.Done():
		s.ends(w)
	}
	over(w.err)
	s.owes(w.app, w.err, w.name)
}

func (s *stage) going(f func()) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	return done
}

func (s *stage) unlock(h *Handle) {
	if h == nil {
		return
	}
	ctx, over := s.call()
	err := h.Unlock(ctx)
	over(err)
	if err != nil && !errors.Is(err, raftlock.ErrLost) && !errors.Is(err, raftlock.ErrReleased) {
		s.owes(h.App, err, "its unlock of "+h.Name+" confirmed")
	}
}

// crash is a fault of the story's own.
func (s *stage) crash(m *Member, back time.Duration) {
	m.Host.Crash()
	m.Host.RestartAfter(back)
}

func (s *stage) setTTL(a *App, ttl time.Duration) {
	ctx, over := s.call()
	ctx, cancel := a.within(ctx)
	defer cancel()
	err := a.Session().SetTTL(ctx, ttl)
	over(err)
	s.owes(a, err, "another TTL")
}

func (s *stage) close(a *App) {
	s.closed = a
	ctx, over := s.call()
	ctx, cancel := a.within(ctx)
	defer cancel()
	err := a.Session().Close(ctx)
	over(err)
	s.owes(a, err, "its session closed")
}

// lastWaits ends what still waits: every call returns when its context ends.
func (s *stage) lastWaits() {
	s.cancel()
	for _, w := range s.all {
		s.ends(w)
	}
}

// unlockAll gives back what living applications hold.
func (s *stage) unlockAll() {
	ctx, cancel := context.WithTimeout(context.Background(), framesPatience)
	defer cancel()
	for _, h := range s.handles() {
		if !h.Valid() {
			continue
		}
		// Its V may pass on the way, and then its session's D: faults may have
		// lasted that long.
		if err := h.Unlock(ctx); !errors.Is(err, raftlock.ErrLost) && !errors.Is(err, raftlock.ErrSessionEnded) {
			s.c.must(h.App.Name+" unlocks "+h.Name, err)
		}
	}
}

// soon takes a lock that nobody holds, within an election at most.
func (s *stage) soon(z *App, name string) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	h, err := z.Lock(ctx, name)
	s.c.must("another application locks "+name+" afterwards", err)
	s.c.must("and unlocks it", h.Unlock(ctx))
}

// living counts the sessions that processes which live have open.
func (s *stage) living() (n int) {
	for _, a := range s.c.Apps() {
		if session := a.Session(); session != nil && a.Alive() && session.Err() == nil {
			n++
		}
	}
	return n
}

// ended holds the cluster to its word: the session of a process that lives ends
// only where its agent was away for longer than the lease. It counts those.
func (s *stage) ended() (n int) {
	for _, a := range s.c.Apps() {
		session := a.Session()
		if session == nil || !a.Alive() || a == s.closed || session.Err() == nil {
			continue
		}
		n++
		if !s.cutOff(a) {
			s.c.W.Fail("%s lives, and its session ended: %v", a.Name, session.Err())
		}
	}
	return n
}

// cutOff: the fault, or the story itself, killed the application's agent.
func (s *stage) cutOff(a *App) bool {
	if s.story.expires && a == s.a {
		return true
	}
	hit := s.aim.Hit()
	if hit == nil || s.fault.Relink {
		return false
	}
	switch s.fault.Action {
	case KillFrom, KillFromSent:
		return hit.from.app == nil && hit.from.host == a.m.Host
	case KillTo:
		return hit.to.app == nil && hit.to.host == a.m.Host
	}
	return false
}
