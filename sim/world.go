package sim

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"time"
)

// World is one simulated world. Make it inside a bubble.
type World struct {
	// Net is the network between the hosts, and its faults.
	Net *Net
	// RestartDelay is how long a host stays down that a frame's Action or a
	// failed raft stable write restarts. Set it before traffic starts.
	RestartDelay time.Duration

	tb    testing.TB
	seed  uint64
	start time.Time

	// mu guards everything below and all that says so elsewhere.
	mu        sync.Mutex
	closed    bool
	hosts     []*Host
	routes    map[string]*Host
	addresses int
	streams   []*stream // in the order of their making
	held      []*parcel
	restarts  map[*time.Timer]struct{}
	busy      int
	frames    frameCounts
	hook      func(*Frame) Action
	onRestart func(*Host)
	onKillApp func(*Frame)
	history   history
	failed    bool
	safety    safety
}

// New makes an empty world. It must be called inside a synctest bubble, whose
// tb it is handed; it closes itself when the test ends, if nobody did before.
func New(tb testing.TB, seed uint64) *World {
	w := &World{
		RestartDelay: 300 * time.Millisecond,
		tb:           tb,
		seed:         seed,
		start:        time.Now(),
		routes:       map[string]*Host{},
		restarts:     map[*time.Timer]struct{}{},
		frames:       frameCounts{seen: map[frameKey]uint64{}},
		safety:       newSafety(),
	}
	w.Net = newNet(w)
	tb.Cleanup(w.Close)
	return w
}

// Now is the true time: how long the world exists, on the bubble's clock.
func (w *World) Now() time.Duration { return time.Since(w.start) }

// Rand is a stream of random numbers of its own for a purpose: what it yields
// depends on the seed and the purpose alone. It is not safe for concurrent use.
func (w *World) Rand(purpose string) *rand.Rand {
	h := fnv.New64a()
	h.Write([]byte(purpose))
	return rand.New(rand.NewPCG(w.seed, h.Sum64()))
}

// Logf notes an event in the history. It is printed only when the test fails.
func (w *World) Logf(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.logLocked(text)
}

func (w *World) logLocked(text string) {
	w.history.note(event{at: w.Now(), text: text})
}

// Fail fails the test, with the seed and, the first time, the history. Unlike
// tb.Fatalf it may be called from any goroutine, and the run goes on.
func (w *World) Fail(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	w.mu.Lock()
	w.logLocked("FAIL " + text)
	story := w.storyOnce()
	w.mu.Unlock()
	w.tb.Errorf("at %v, seed %d: %s%s", w.Now(), w.seed, text, story)
}

// storyOnce is the history for people, the first time it is asked for.
func (w *World) storyOnce() string {
	if w.failed {
		return ""
	}
	w.failed = true
	return fmt.Sprintf("\nseed %d, history:\n%s", w.seed, w.history.String())
}

// OnFrame sets the hook that sees every message at its sending. It is called
// on the sender's goroutine, possibly several at once, without locks: it may
// call any fault method, and must neither wait nor send.
func (w *World) OnFrame(hook func(*Frame) Action) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hook = hook
}

// OnRestart sets what starts a host's agent; Host.Restart calls it last.
func (w *World) OnRestart(start func(*Host)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.onRestart = start
}

// OnKillApp sets what is called when an Action kills the application's side of
// a Pipe; the pipe is broken by then.
func (w *World) OnKillApp(kill func(*Frame)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.onKillApp = kill
}

// closeGrace bounds how long, in virtual time, Close waits for handlers.
const closeGrace = time.Minute

// Close ends the world: every host crashes, every stream breaks, restarts that
// were due are off, and the goroutines of handlers are waited for. Shut raft
// nodes and agents down before, or have them end with Host.Context. It is safe
// to repeat.
func (w *World) Close() {
	w.mu.Lock()
	again := w.closed
	w.closed = true
	hosts := w.hosts
	for timer := range w.restarts {
		timer.Stop()
	}
	w.held = nil
	w.mu.Unlock()
	if again {
		return
	}
	for _, h := range hosts {
		h.Crash()
	}
	w.breakAll()
	w.awaitIdle()
	w.mu.Lock()
	tell := w.tb.Failed() && !w.failed
	story := ""
	if tell {
		story = w.storyOnce()
	}
	w.mu.Unlock()
	if tell {
		w.tb.Log(story)
	}
}

func (w *World) breakAll() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range append([]*stream(nil), w.streams...) {
		s.breakBoth(ErrClosed)
	}
}

// awaitIdle polls: a handler that never ends is told of with its stack, where
// a WaitGroup would hang beside any ticker that keeps time moving.
func (w *World) awaitIdle() {
	for waited := time.Duration(0); ; waited += time.Millisecond {
		w.mu.Lock()
		busy := w.busy
		w.mu.Unlock()
		if busy == 0 {
			return
		}
		if waited > closeGrace {
			stacks := make([]byte, 1<<20)
			w.Fail("%d goroutines of the world do not end\n%s", busy, stacks[:runtime.Stack(stacks, true)])
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// run counts f as the world's own while it runs. False: the world is closed,
// and f did not run.
func (w *World) run(f func()) bool {
	w.mu.Lock()
	if w.closed {
		w.mu.Unlock()
		return false
	}
	w.busy++
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		w.busy--
		w.mu.Unlock()
	}()
	f()
	return true
}

// goLocked runs f on a goroutine of its own, as run does. The caller holds mu.
func (w *World) goLocked(f func()) {
	w.busy++
	go func() {
		defer func() {
			w.mu.Lock()
			w.busy--
			w.mu.Unlock()
		}()
		f()
	}()
}
