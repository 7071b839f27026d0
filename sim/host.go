package sim

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/raftlock/raftlock/link"
)

// What the simulated edges fail with. Compare with errors.Is.
var (
	// ErrDead: the incarnation that asks has crashed. Nothing was done.
	ErrDead = errors.New("host crashed")
	// ErrClosed: the thing was closed by its own side, or the world was.
	ErrClosed = errors.New("closed")
	// ErrBroken: the connection broke. What was sent may have arrived or not.
	ErrBroken = errors.New("connection broken")
	// ErrConnectionRefused: nobody listens there. Nothing was done.
	ErrConnectionRefused = errors.New("connection refused")
	// ErrTimeout: no answer in time. What was sent may have arrived or not.
	ErrTimeout = errors.New("timed out")
	// ErrOverflow: the far end does not read; wrapped beside ErrBroken.
	ErrOverflow = fmt.Errorf("too many messages unread: %w", ErrBroken)
)

// Host is one machine. It outlives its incarnations: the disk's content, the
// clock and the address stay, everything handed out to one incarnation dies
// with it.
type Host struct {
	// Name is unique in the world.
	Name string
	// Disk is what survives a crash.
	Disk *Disk

	w     *World
	index int
	clock *Clock
	local *rand.Rand // loopback and crash draws

	// Guarded by World.mu.
	addr      string
	inc       *incarnation
	gate      chan struct{} // non-nil while paused, closed by Resume
	holdUntil time.Duration
	silent    bool // powered off: not even a refusal is sent
}

// incarnation is one life of a host's agent.
type incarnation struct {
	host   *Host
	number int
	ctx    context.Context
	cancel context.CancelFunc

	// Guarded by World.mu.
	down      bool
	transport *transport
	handler   link.Handler
	volume    *volume
	calls     map[*call]struct{}
}

// AddHost adds a host in its first incarnation. Its clock starts at an offset
// of its own.
func (w *World) AddHost(name string) *Host {
	local := w.Rand("host/" + name)
	h := &Host{Name: name, w: w, local: local}
	h.clock = newClock(w.Now, time.Duration(local.Int64N(int64(1000*time.Hour))))
	h.Disk = newDisk(h)
	w.mu.Lock()
	defer w.mu.Unlock()
	h.index = len(w.hosts)
	w.hosts = append(w.hosts, h)
	w.Net.grow()
	w.addressLocked(h)
	h.inc = newIncarnation(h, 1, newVolume(h.Disk))
	return h
}

// Hosts are all hosts, in the order of their adding.
func (w *World) Hosts() []*Host {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]*Host(nil), w.hosts...)
}

// Host is the host of that name, or nil.
func (w *World) Host(name string) *Host {
	for _, h := range w.Hosts() {
		if h.Name == name {
			return h
		}
	}
	return nil
}

func newIncarnation(h *Host, number int, v *volume) *incarnation {
	ctx, cancel := context.WithCancel(context.Background())
	i := &incarnation{
		host: h, number: number, ctx: ctx, cancel: cancel, volume: v,
		calls: map[*call]struct{}{},
	}
	v.inc = i
	return i
}

func (h *Host) String() string { return h.Name }

// Addr is the address of the host's peer port.
func (h *Host) Addr() string {
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	return h.addr
}

// Incarnation counts the host's lives, from 1.
func (h *Host) Incarnation() int {
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	return h.inc.number
}

// Up reports whether the current incarnation lives.
func (h *Host) Up() bool {
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	return !h.inc.down
}

// Context ends with the current incarnation.
func (h *Host) Context() context.Context {
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	return h.inc.ctx
}

// Clock is the host's lease clock, as agents are handed it.
func (h *Host) Clock() func() time.Duration { return h.clock.Read }

// True is the true time at which the host's clock shows reading. Where that
// lies in the future, it holds only while the rate stays.
func (h *Host) True(reading time.Duration) time.Duration { return h.clock.True(reading) }

// SetRate makes the host's clock run at rate from now on; 1 is true. The
// product's promises hold within 1% of it.
func (h *Host) SetRate(rate float64) {
	if rate <= 0 {
		panic("sim: a clock's rate must be above zero")
	}
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	h.clock.setRate(rate)
	h.w.logLocked(fmt.Sprintf("%s: clock rate %v", h.Name, rate))
}

// Pause holds all messages to and from the host, those of its local streams
// too, and its disk operations, until Resume. Its clock and its goroutines
// run. No connection breaks by it.
func (h *Host) Pause() {
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	if h.gate == nil {
		h.gate = make(chan struct{})
		h.w.logLocked(h.Name + ": pause")
	}
}

// Resume ends a pause: what was held goes on in its order.
func (h *Host) Resume() {
	h.w.mu.Lock()
	if h.gate != nil {
		close(h.gate)
		h.gate = nil
		h.w.logLocked(h.Name + ": resume")
	}
	h.w.kick()
	h.w.mu.Unlock()
}

// Crash ends the current incarnation at once, as SIGKILL would: its context is
// cancelled, its connections break, its listener is gone, of each of its disk
// writes in flight nothing, a prefix or all is kept. What it sent is delivered
// in part. It does not wait for goroutines. A host that is down stays so.
func (h *Host) Crash() { h.crash(crashPlan{}) }

// PowerOff is Crash without a word to anybody: connections of others to it
// hang until they time out, and new ones do not even get a refusal.
func (h *Host) PowerOff() { h.crash(crashPlan{silent: true}) }

// crashPlan says how much of a crash others notice.
type crashPlan struct {
	silent   bool // nobody is told
	keepSent bool // all that was sent arrives
}

func (h *Host) crash(plan crashPlan) {
	w := h.w
	w.mu.Lock()
	inc := h.inc
	if inc.down {
		w.mu.Unlock()
		return
	}
	inc.down = true
	h.silent = plan.silent
	w.logLocked(fmt.Sprintf("%s: crash of incarnation %d%s", h.Name, inc.number, map[bool]string{true: " (power off)"}[plan.silent]))
	h.Disk.crashed(inc)
	if inc.transport != nil {
		inc.transport.shut()
	}
	inc.breakEnds(plan)
	inc.resetCalls(plan)
	w.kick()
	w.mu.Unlock()
	inc.cancel()
}

// Restart begins a new incarnation, crashing the old one if it lives, and
// calls what OnRestart set. A paused host stays paused.
func (h *Host) Restart() {
	w := h.w
	h.Crash()
	w.mu.Lock()
	for !h.inc.down { // somebody else restarted it meanwhile
		w.mu.Unlock()
		h.Crash()
		w.mu.Lock()
	}
	if w.closed {
		w.mu.Unlock()
		return
	}
	h.silent = false
	h.inc = newIncarnation(h, h.inc.number+1, h.Disk.surviving())
	w.logLocked(fmt.Sprintf("%s: start of incarnation %d", h.Name, h.inc.number))
	start := w.onRestart
	w.mu.Unlock()
	if start != nil {
		start(h)
	}
}

// RestartAfter restarts the host when the delay has passed, unless the world
// is closed by then or somebody restarted it meanwhile.
func (h *Host) RestartAfter(delay time.Duration) {
	w := h.w
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return
	}
	number := h.inc.number
	var timer *time.Timer
	timer = time.AfterFunc(delay, func() {
		w.mu.Lock()
		delete(w.restarts, timer)
		stale := h.inc.number != number
		w.mu.Unlock()
		if !stale {
			w.run(h.Restart)
		}
	})
	w.restarts[timer] = struct{}{}
}
