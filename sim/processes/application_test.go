package processes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/sys/unix"

	raftlock "github.com/raftlock/raftlock/sdk/go"
)

// applicationMain is the other side of type application: a process that uses
// the SDK as any application does, and does what it is told. It ends, without a
// word to the agent, when its input does.
func applicationMain() int {
	traces, err := tracing(os.Getenv)
	if err != nil {
		return complain(err)
	}
	a := &worker{
		traces: traces, working: map[string]trace.Span{},
		sessions: map[string]*raftlock.Session{}, locks: map[string]*raftlock.Lock{},
		watches: map[string]*watchLog{}, rest: make(chan struct{}), out: json.NewEncoder(os.Stdout),
	}
	in := json.NewDecoder(os.Stdin)
	for {
		var o order
		if err := in.Decode(&o); err != nil {
			return 0
		}
		go a.obey(o)
	}
}

type worker struct {
	mu       sync.Mutex // guards all of it
	sessions map[string]*raftlock.Session
	locks    map[string]*raftlock.Lock
	watches  map[string]*watchLog
	// working are the spans of what it does under a lock, from asking to unlocking.
	working map[string]trace.Span
	traces  *sdktrace.TracerProvider
	rest    chan struct{}

	outMu sync.Mutex // guards out
	out   *json.Encoder
}

func (w *worker) obey(o order) {
	patience := o.Patience
	if patience == 0 {
		patience = 30 * time.Second
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	r := &answer{ID: o.ID, Began: clock()}
	do := map[string]func(context.Context, order, *answer) error{
		"open": w.open, "crowd": w.crowd, "alive": w.alive, "lock": w.lock, "unlock": w.unlock,
		"check": w.check, "watch": w.watch, "report": w.report, "get": w.get,
		"pass": w.pass, "join": w.join, "keep": w.keep, "work": w.work, "rest": w.stopWork, "idle": w.idle,
	}[o.Do]
	err := fmt.Errorf("no such order: %q", o.Do)
	if do != nil {
		err = do(ctx, o, r)
	}
	if r.Ended == 0 {
		r.Ended = clock()
	}
	if err != nil {
		r.Failure = failureOf(err)
	}
	w.outMu.Lock()
	defer w.outMu.Unlock()
	if err := w.out.Encode(r); err != nil {
		os.Exit(1) // the test is gone
	}
}

func failureOf(err error) *failure {
	f := &failure{Text: err.Error(), Over: errors.Is(err, context.DeadlineExceeded)}
	var e *raftlock.Error
	if errors.As(err, &e) {
		f.Reason, f.Applied = strings.TrimPrefix(e.Reason.String(), "REASON_"), string(e.Applied)
	}
	for sentinel, reason := range map[error]string{
		raftlock.ErrNoQuorum: "NO_QUORUM", raftlock.ErrNoLeader: "NO_LEADER", raftlock.ErrLost: "LOST",
		raftlock.ErrDenied: "DENIED", raftlock.ErrHeld: "HELD",
	} {
		if errors.Is(err, sentinel) {
			f.Reason = reason
		}
	}
	return f
}

func (w *worker) session(name string) (*raftlock.Session, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.sessions[name]
	if s == nil {
		return nil, fmt.Errorf("no session %q", name)
	}
	return s, nil
}

func (w *worker) handle(name string) (*raftlock.Lock, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	l := w.locks[name]
	if l == nil {
		return nil, fmt.Errorf("no lock %q", name)
	}
	return l, nil
}

func (w *worker) open(ctx context.Context, o order, r *answer) error {
	s, err := raftlock.NewSession(ctx, raftlock.WithSocket(o.Socket), raftlock.WithTTL(o.TTL), raftlock.WithTracerProvider(w.traces))
	if err != nil {
		return err
	}
	r.PID = os.Getpid()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sessions[o.Session] = s
	return nil
}

// crowd opens many sessions, and takes many locks with each: SESSION-n/m.
func (w *worker) crowd(ctx context.Context, o order, _ *answer) error {
	var all sync.WaitGroup
	failed := make(chan error, o.Count)
	gate := make(chan struct{}, 32)
	for n := range o.Count {
		all.Go(func() {
			gate <- struct{}{}
			defer func() { <-gate }()
			if err := w.member(ctx, o, fmt.Sprintf("%s-%d", o.Session, n)); err != nil {
				failed <- err
			}
		})
	}
	all.Wait()
	close(failed)
	return <-failed
}

func (w *worker) member(ctx context.Context, o order, name string) error {
	s, err := raftlock.NewSession(ctx, raftlock.WithSocket(o.Socket), raftlock.WithTTL(o.TTL))
	if err != nil {
		return err
	}
	w.mu.Lock()
	w.sessions[name] = s
	w.mu.Unlock()
	for m := range o.Each {
		key := fmt.Sprintf("%s/%d", name, m)
		l, err := s.Lock(ctx, key)
		if err != nil {
			return err
		}
		w.mu.Lock()
		w.locks[key] = l
		w.mu.Unlock()
	}
	return nil
}

// alive counts the handles that are valid now.
func (w *worker) alive(_ context.Context, _ order, r *answer) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, l := range w.locks {
		if l.Valid() {
			r.Alive++
		}
	}
	return nil
}

func (w *worker) lock(ctx context.Context, o order, r *answer) error {
	s, err := w.session(o.Session)
	if err != nil {
		return err
	}
	take := s.Lock
	if o.Try {
		take = s.TryLock
	}
	l, err := take(w.begin(ctx, o.Lock), o.Lock)
	r.Ended = clock()
	if err != nil {
		return err
	}
	r.Deadline = l.Deadline()
	w.mu.Lock()
	w.locks[o.Lock] = l
	w.mu.Unlock()
	r.Token, err = l.Token()
	return err
}

func (w *worker) unlock(ctx context.Context, o order, _ *answer) error {
	l, err := w.handle(o.Lock)
	if err != nil {
		return err
	}
	w.mu.Lock()
	span := w.working[o.Lock]
	w.mu.Unlock()
	defer span.End()
	return l.Unlock(trace.ContextWithSpan(ctx, span))
}

// begin begins the span of what is done under a lock.
func (w *worker) begin(ctx context.Context, lock string) context.Context {
	ctx, span := w.traces.Tracer("application").Start(ctx, "work")
	w.mu.Lock()
	defer w.mu.Unlock()
	w.working[lock] = span
	return ctx
}

// idle does nothing for as long as it has patience.
func (w *worker) idle(ctx context.Context, _ order, _ *answer) error {
	<-ctx.Done()
	return nil
}

func (w *worker) check(_ context.Context, o order, r *answer) error {
	l, err := w.handle(o.Lock)
	if err != nil {
		return err
	}
	r.Valid, r.Deadline = l.Valid(), l.Deadline()
	r.Token, err = l.Token()
	return err
}

// watch looks at a handle until the process ends.
func (w *worker) watch(_ context.Context, o order, _ *answer) error {
	l, err := w.handle(o.Lock)
	if err != nil {
		return err
	}
	log := &watchLog{}
	w.mu.Lock()
	w.watches[o.Lock] = log
	w.mu.Unlock()
	go func() {
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		last := clock()
		for ; ; <-tick.C {
			began, v, valid := clock(), l.Deadline(), l.Valid()
			w.mu.Lock()
			log.note(began, began-last, v, valid)
			w.mu.Unlock()
			last = began
		}
	}()
	return nil
}

func (w *watchLog) note(began, gap, v time.Duration, valid bool) {
	w.Looks++
	w.Gap, w.Deadline = max(w.Gap, gap), max(w.Deadline, v)
	switch {
	case !valid && w.FirstLost == 0:
		w.FirstLost = began
	case valid && w.FirstLost != 0:
		w.Again++
		fallthrough
	case valid:
		w.LastValid = began
	}
}

// report tells what a watch saw, once it has looked anew.
func (w *worker) report(ctx context.Context, o order, r *answer) error {
	seen := -1
	for {
		w.mu.Lock()
		log := w.watches[o.Lock]
		if log == nil {
			w.mu.Unlock()
			return fmt.Errorf("no watch of %q", o.Lock)
		}
		now := *log
		w.mu.Unlock()
		if seen < 0 {
			seen = now.Looks
		}
		if now.Looks > seen+1 {
			r.Watch = &now
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Millisecond):
		}
	}
}

func (w *worker) get(ctx context.Context, o order, r *answer) error {
	c, err := raftlock.Dial(ctx, raftlock.WithSocket(o.Socket))
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	var opts []raftlock.ReadOption
	if o.Stale {
		opts = append(opts, raftlock.Stale())
	}
	info, err := c.Get(ctx, o.Lock, opts...)
	r.Info = &info
	return err
}

func (w *worker) pass(_ context.Context, o order, r *answer) error {
	s, err := w.session(o.Session)
	if err != nil {
		return err
	}
	r.Pass = s.Pass().Encode()
	return nil
}

// join takes a pass (in Session) for this process.
func (w *worker) join(ctx context.Context, o order, _ *answer) error {
	p, err := raftlock.ParsePass(o.Session)
	if err != nil {
		return err
	}
	c, err := raftlock.Dial(ctx, raftlock.WithSocket(o.Socket))
	if err != nil {
		return err
	}
	_, err = c.Join(ctx, p)
	return err
}

// keep starts a child that inherits every socket of this process, and sleeps.
func (w *worker) keep(_ context.Context, _ order, r *answer) error {
	dir, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return err
	}
	cmd := exec.Command("sleep", "60")
	for _, e := range dir {
		var fd int
		if _, err := fmt.Sscan(e.Name(), &fd); err != nil {
			return err
		}
		if to, err := os.Readlink("/proc/self/fd/" + e.Name()); err != nil || !strings.HasPrefix(to, "socket:") {
			continue
		}
		kept, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			return err
		}
		f := os.NewFile(uintptr(kept), e.Name())
		defer func() { _ = f.Close() }()
		cmd.ExtraFiles = append(cmd.ExtraFiles, f)
	}
	if len(cmd.ExtraFiles) == 0 {
		return errors.New("this process has no socket")
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	r.PID = cmd.Process.Pid
	return nil
}

// work locks and unlocks until it is told to rest, and tells every turn.
func (w *worker) work(_ context.Context, o order, r *answer) error {
	s, err := w.session(o.Session)
	if err != nil {
		return err
	}
	w.mu.Lock()
	rest := w.rest
	w.mu.Unlock()
	for {
		select {
		case <-rest:
			return nil
		default:
			r.Turns = append(r.Turns, takeTurn(s, o.Lock))
		}
	}
}

func takeTurn(s *raftlock.Session, name string) (t turn) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	t.Began = clock()
	defer func() { t.Ended = clock() }()
	l, err := s.Lock(ctx, name)
	if err != nil {
		t.Failed = "lock: " + err.Error()
		return t
	}
	t.Held = clock()
	if t.Token, err = l.Token(); err != nil {
		t.Failed = "token: " + err.Error()
	}
	if err := l.Unlock(ctx); err != nil {
		t.Failed = "unlock: " + err.Error()
	}
	return t
}

func (w *worker) stopWork(context.Context, order, *answer) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	close(w.rest)
	w.rest = make(chan struct{})
	return nil
}
