package runner

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"sync"
	"syscall"
	"time"

	raftlock "github.com/raftlock/raftlock/sdk/go"
)

// noticeAfter is how long a wait may be before a person is told of it.
const noticeAfter = 400 * time.Millisecond

// KeptOutHint is what to do about a socket that may not be opened.
const KeptOutHint = "become a member of the group that owns the socket (ls -l shows it), or the superuser"

var errNobody = errors.New("no agent on the socket")

// turn waits for the lock. With neither lock nor error a signal ended the wait,
// and the code says which.
func (r *run) turn(ctx context.Context) (*raftlock.Session, *raftlock.Lock, int, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if r.cfg.Wait >= 0 {
		ctx, cancel = context.WithTimeout(ctx, r.cfg.Wait)
		defer cancel()
	}
	type outcome struct {
		session *raftlock.Session
		lock    *raftlock.Lock
		err     error
	}
	done := make(chan outcome, 1)
	go func() {
		session, lock, err := r.acquire(ctx)
		done <- outcome{session, lock, err}
	}()
	for ended := 0; ; {
		select {
		case sig := <-r.signals:
			if number := sig.(syscall.Signal); ends(number) {
				ended = ExitSignal + int(number)
				cancel()
			}
		case o := <-done:
			if ended != 0 && o.lock != nil {
				// Granted all the same; giving it back is all that is left.
				return nil, nil, ended, giveBack(ctx, o.session, o.lock)
			}
			if ended != 0 {
				return nil, nil, ended, nil
			}
			return o.session, o.lock, notAcquired(o.err), r.explain(o.err)
		}
	}
}

// ends reports whether a signal ends a wait.
func ends(s syscall.Signal) bool {
	switch s {
	case syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT:
		return true
	}
	return false
}

func (r *run) acquire(ctx context.Context) (*raftlock.Session, *raftlock.Lock, error) {
	noticed, answered := context.WithCancel(ctx)
	var notices sync.WaitGroup
	notices.Go(func() { r.notice(noticed) })
	notices.Go(func() { r.watchObstacle(noticed) })
	defer notices.Wait()
	defer answered()

	if err := r.reach(ctx); err != nil {
		return nil, nil, err
	}
	if r.cfg.Try {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, tryPatience)
		defer cancel()
	}
	session, err := r.client.Session(ctx)
	if err != nil {
		return nil, nil, err
	}
	take := session.Lock
	if r.cfg.Try {
		take = session.TryLock
	}
	lock, err := take(ctx, r.cfg.Lock, raftlock.WithPriority(r.cfg.Priority))
	if err != nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaveMax)
		defer cancel()
		_ = session.Close(ctx)
		return nil, nil, err
	}
	return session, lock, nil
}

// reach waits until somebody listens on the socket: an agent may be starting.
// What it needs to become able to answer is part of the wait for the turn. A
// socket that keeps this user out will not change.
func (r *run) reach(ctx context.Context) error {
	turn := ctx
	ctx, cancel := context.WithTimeout(ctx, reachPatience)
	defer cancel()
	var obstacle error
	for {
		conn, err := new(net.Dialer).DialContext(ctx, "unix", r.cfg.Socket)
		if err == nil {
			return conn.Close()
		}
		if errors.Is(err, fs.ErrPermission) {
			return err
		}
		// A time-out only says that the time is over.
		if n, ok := errors.AsType[net.Error](err); !ok || !n.Timeout() {
			obstacle = err
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			if obstacle == nil && turn.Err() != nil {
				return turn.Err() // it was never known that nobody is there
			}
			return fmt.Errorf("%w: %w", errNobody, cmp.Or(obstacle, err))
		}
	}
}

// notice tells a person at a terminal what is waited for. ctx ends when the
// wait does.
func (r *run) notice(ctx context.Context) {
	if r.cfg.Try || !IsTerminal(r.cfg.Stderr) {
		return
	}
	select {
	case <-time.After(noticeAfter):
	case <-ctx.Done():
		return
	}
	reading, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	info, err := r.client.Get(reading, r.cfg.Lock, raftlock.Stale())
	switch {
	case ctx.Err() != nil:
	case err != nil || !info.Held:
		r.tell("waiting for %q", r.cfg.Lock)
	default:
		r.tell("waiting for %q: held by %q on %q with token %d, %d in the queue",
			r.cfg.Lock, cmp.Or(info.Owner, "somebody"), info.Agent, info.Token, info.Waiters)
	}
}

func notAcquired(err error) int {
	switch {
	case err == nil:
		return 0
	case errors.Is(err, fs.ErrPermission), errors.Is(err, raftlock.ErrDenied):
		return ExitDenied
	case errors.Is(err, errNobody):
		return ExitNoAgent
	case errors.Is(err, raftlock.ErrInvalid):
		return ExitUsage
	}
	return ExitNotAcquired
}

// explain adds what to do next.
func (r *run) explain(err error) error {
	next := "try again later"
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errNobody):
		next = "start the agent, or name its socket with --socket or RAFTLOCK_SOCKET"
	case errors.Is(err, fs.ErrPermission):
		next = KeptOutHint
	case errors.Is(err, raftlock.ErrInvalid):
		next = "change it; repeating is useless"
	case errors.Is(err, context.DeadlineExceeded):
		return r.overdue(err)
	case errors.Is(err, raftlock.ErrNoQuorum), errors.Is(err, raftlock.ErrNoLeader):
		next = "look at raftlock status; the command was not started"
	case errors.Is(err, raftlock.ErrHeld):
		next = fmt.Sprintf("the command was not started; raftlock get %q tells who holds it", r.cfg.Lock)
	case errors.Is(err, raftlock.ErrDenied):
		next = "ask who administers this host's agent"
	}
	return fmt.Errorf("%w; %s", err, next)
}
