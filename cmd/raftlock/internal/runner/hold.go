package runner

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/raftlock/raftlock/internal/mutant"
	raftlock "github.com/raftlock/raftlock/sdk/go"
)

// lookMax is the longest pause between two looks at the clock. A timer stands
// still while the host sleeps, the deadline does not.
const lookMax = 100 * time.Millisecond

var (
	errNear     = errors.New("the lock was not renewed in time")
	errRevoked  = errors.New("the lock was revoked")
	errGone     = errors.New("the lock was lost")
	errAsleep   = errors.New("the lock was not renewed in time, since the runner was stopped or held up")
	errNoWarden = errors.New("the warden, which ends the command if the runner is killed, is gone")
	errUndead   = errors.New("processes of the command were killed and do not end")
)

// holding is one hold with its command. Only hold's goroutine touches it.
type holding struct {
	*run
	lock   *raftlock.Lock
	child  *child
	warden *warden
	tty    *terminal
	brief  briefing

	cause    error         // why the command was told to stop, if it was us
	killAt   time.Duration // when what is left is killed
	killed   bool
	undead   bool // a person was told that they do not end
	joined   bool // the shim has, and waits to be let go
	cleared  bool // the command was let go
	running  bool // the shim is done
	ended    bool // the command is gone
	paused   bool // somebody forwarded a TSTP: leave it stopped
	refused  bool // a person was told about Ctrl-Z
	deferred []syscall.Signal
}

// hold runs the command while the lock is held, and returns when nothing of its
// group is left.
func (r *run) hold(session *raftlock.Session, lock *raftlock.Lock) (int, error) {
	token, err := lock.Token()
	if err != nil {
		return ExitLost, fmt.Errorf("%w; the command was not started", err)
	}
	h := &holding{run: r, lock: lock, tty: terminalOf(r.cfg.Stdin), killAt: math.MaxInt64}
	var foreground *terminal
	if h.tty.ours() {
		foreground = h.tty
	}
	// First, so that what the shim inherits is not open yet; then both start
	// side by side.
	h.warden, err = startWarden(&r.cfg)
	if err != nil {
		return ExitNotAcquired, fmt.Errorf("%w; the command was not started", err)
	}
	h.child, err = startChild(&r.cfg, h.environ(token), foreground)
	if err != nil {
		h.dismiss()
		return ExitNotRunnable, err
	}
	h.brief = briefing{Pass: session.Pass().Encode(), Socket: r.cfg.Socket, TTL: r.cfg.TTL}
	h.order(h.brief)
	h.warden.brief(h.brief, h.child.group)
	undead := h.watch()
	h.tty.takeBack(h.child.pid)
	_ = h.child.orders.Close()
	if undead == nil { // else the keeper would be waited for as long as they
		h.child.working.Wait()
		h.dismiss()
		h.child.group.close()
	}
	return h.outcome(undead)
}

// dismiss lets the warden go; Run waits for it when the lock is given back. One
// whose runner gives up on the undead is left:
// it takes the runner's end for its death, and goes on trying.
func (h *holding) dismiss() {
	if h.warden == nil {
		return
	}
	h.warden.release()
	if h.ended && h.child.status.Signal() == syscall.SIGKILL {
		h.warden.await() // it may have to say that this was its work
		return
	}
	h.leaving.Go(h.warden.await)
}

func (h *holding) environ(token uint64) []string {
	socket := h.cfg.Socket
	if path, err := filepath.Abs(socket); err == nil {
		socket = path
	}
	var env []string
	for _, v := range h.cfg.Environ {
		if !strings.HasPrefix(v, "RAFTLOCK_TOKEN=") && !strings.HasPrefix(v, "RAFTLOCK_LOCK=") && !strings.HasPrefix(v, "RAFTLOCK_SOCKET=") {
			env = append(env, v)
		}
	}
	return append(env, "RAFTLOCK_TOKEN="+strconv.FormatUint(token, 10), "RAFTLOCK_LOCK="+h.cfg.Lock, "RAFTLOCK_SOCKET="+socket)
}

// order writes a line to the shim. One that is dead tells by its end.
func (h *holding) order(o any) {
	line, err := json.Marshal(o)
	if err == nil {
		_, err = h.child.orders.Write(append(line, '\n'))
	}
	_ = err
}

// watch looks at the lock and at the command until the group is gone.
func (h *holding) watch() error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	revoked, lost := h.lock.Revoked(), h.lock.Lost()
	joined, started, ended := h.child.joined, h.child.started, h.child.ended
	for {
		// Each warden has its own; one that is no more has none that matter.
		ready, fired, left := h.warden.news()
		pause, err := h.look()
		if err != nil {
			return err
		}
		timer.Reset(pause)
		select {
		case <-timer.C:
		case s := <-h.signals:
			h.forward(s.(syscall.Signal))
		case <-revoked:
			revoked = nil
			// Nothing moves a revoked hold's V any more.
			h.stop(errRevoked, h.lastKill())
		case <-lost:
			lost = nil
			h.stop(errGone, clock())
		case <-joined:
			joined, h.joined = nil, true
			h.clear()
		case <-ready:
			h.warden.isReady = true
			h.clear()
		case <-fired:
			// The group is dead. Whether the command died by that, its status
			// says: it may have ended before.
			h.warden.fires = true
		case <-left:
			h.replace()
		case <-started:
			started = nil
			h.begun()
		case s := <-h.child.stopped:
			h.resume(s)
		case <-ended:
			ended, h.ended = nil, true
			h.leftovers()
		case <-h.child.gone:
			return nil
		}
	}
}

// look does what the clock asks for and says how long nothing else will be.
func (h *holding) look() (time.Duration, error) {
	now := clock()
	stopAt := h.stopAt()
	h.instruct()
	if h.cause == nil && !h.ended && now >= stopAt {
		cause := errNear
		if now >= h.lock.Deadline() {
			cause = errAsleep // this look comes far too late
		}
		h.stop(cause, stopAt+h.cfg.StopTimeout)
	}
	if now >= h.killAt && !mutant.On("run-kill") {
		h.killed = true
		h.child.signal(syscall.SIGKILL)
		if late := now >= h.killAt+undeadMax; late && !h.lock.Valid() {
			return 0, errUndead
		} else if late && !h.undead {
			h.undead = true
			h.tell("%q: %v; the lock is kept", h.cfg.Lock, errUndead)
		}
		return min(lookMax, h.cfg.margin()), nil
	}
	next := h.killAt
	if h.cause == nil && !h.ended {
		next = min(next, stopAt)
	}
	// A deadline that moved is told to the warden long before it matters.
	return min(max(next-now, 0), lookMax, h.cfg.TTL/9), nil
}

// stopAt is when the command must be told to stop, if nothing is renewed.
func (h *holding) stopAt() time.Duration {
	return h.lastKill() - h.cfg.StopTimeout
}

// lastKill is when the group is killed at the latest: before V, as it is now.
func (h *holding) lastKill() time.Duration { return h.lock.Deadline() - h.cfg.margin() }

// stop tells the group to end, and sets when it is killed. The first cause
// stays; the time only comes nearer.
func (h *holding) stop(cause error, killAt time.Duration) {
	h.killAt = min(h.killAt, killAt)
	if h.cause != nil || h.ended {
		return
	}
	h.cause = cause
	h.tell("%q: %v; stopping the command", h.cfg.Lock, cause)
	h.child.signal(syscall.SIGTERM)
	// A stopped process takes its SIGTERM when it goes on.
	h.child.signal(syscall.SIGCONT)
}

// clear lets the shim execute the command when both processes have joined,
// unless it is too late for it. A warden that replaces another takes over.
func (h *holding) clear() {
	if (h.warden == nil || !h.warden.isReady) && !mutant.On("run-warden-first") {
		return
	}
	if h.cleared {
		h.instruct()
		return
	}
	if !h.joined || h.cause != nil || !h.lock.Valid() {
		return
	}
	h.cleared = true
	// In this order: from its first order on the warden kills, and no command
	// runs without.
	h.instruct()
	h.order(clearance{Parent: os.Getpid(), Until: h.stopAt()})
}

// instruct tells the warden when to kill the group: when the runner would do it
// too, if it can.
func (h *holding) instruct() {
	if h.cleared && h.warden != nil && h.warden.isReady {
		h.warden.tell(h.lastKill())
	}
}

// replace starts a warden anew. One that did not become ready would do no
// better the next time: the command is stopped rather than left without.
func (h *holding) replace() {
	stood, why := h.warden.isReady, h.warden.failure
	h.leaving.Go(h.warden.await)
	h.warden = nil
	if stood && !mutant.On("run-warden-anew") {
		var err error
		if h.warden, err = startWarden(&h.cfg); err == nil {
			h.warden.brief(h.brief, h.child.group)
			return
		}
		h.warden, why = nil, err.Error()
	}
	err := errNoWarden
	if why != "" {
		err = fmt.Errorf("%w: %s", errNoWarden, why)
	}
	h.stop(err, min(clock()+h.cfg.StopTimeout, h.lastKill()))
}

// begun: the shim has become the command, or ended.
func (h *holding) begun() {
	h.running = true
	for _, s := range h.deferred {
		h.forward(s)
	}
	h.deferred = nil
}

// forward hands a signal to the group. What a shim would not understand waits
// for the command.
func (h *holding) forward(s syscall.Signal) {
	if !h.running && !ends(s) {
		if len(h.deferred) < signalsMax {
			h.deferred = append(h.deferred, s)
		}
		return
	}
	switch s {
	case syscall.SIGTSTP:
		h.paused = true
	case syscall.SIGCONT:
		h.paused = false
		// "fg" of a runner that was in the background.
		if h.tty.ours() {
			_ = h.tty.give(h.child.pid)
		}
	}
	h.child.signal(s)
}

// resume undoes a stop that Ctrl-Z made: the shell waits for the runner, which
// cannot stop without losing the lock, so nobody would get the terminal.
func (h *holding) resume(s syscall.Signal) {
	if s != syscall.SIGTSTP || h.paused || h.tty == nil {
		return
	}
	if pgrp, err := h.tty.foreground(); err != nil || pgrp != h.child.pid {
		return
	}
	if !h.refused {
		h.refused = true
		h.tell("a command that holds a lock is not suspended")
	}
	h.child.signal(syscall.SIGCONT)
}

// leftovers ends what the command left behind in its group: the lock is not
// given to others while it runs.
func (h *holding) leftovers() {
	if mutant.On("run-group") {
		return
	}
	h.child.signal(syscall.SIGTERM)
	h.child.signal(syscall.SIGCONT)
	h.killAt = min(h.killAt, clock()+h.cfg.StopTimeout, h.lastKill())
}

// outcome says how it went. A command that ended by itself has its own status,
// whatever became of the lock while the rest of its group was cleared away.
func (h *holding) outcome(err error) (int, error) {
	if h.cause == nil && h.wardenKilled() {
		h.cause = errAsleep
	}
	switch {
	case err != nil:
		return ExitLost, fmt.Errorf("%w; look for them with ps -o pid,stat,args --pgroup %d", err, h.child.pid)
	case errors.Is(h.cause, errNoWarden) && !h.cleared:
		return ExitNotAcquired, fmt.Errorf("%w; the command was not started", h.cause)
	case h.cause != nil && !h.cleared:
		return ExitLost, fmt.Errorf("%w; the command was not started", h.cause)
	case h.cause != nil:
		how := "stopped"
		if h.killed || h.wardenKilled() {
			how = "killed"
		}
		return ExitLost, fmt.Errorf("%w; the command was %s, look at what it left unfinished", h.cause, how)
	}
	return h.child.exitCode(), nil
}

// wardenKilled reports whether the command died by the warden: the report may
// be read after the death was seen.
func (h *holding) wardenKilled() bool {
	if h.warden == nil || !h.ended || h.child.status.Signal() != syscall.SIGKILL {
		return false
	}
	select {
	case <-h.warden.fired:
		return true
	default:
		return false
	}
}
