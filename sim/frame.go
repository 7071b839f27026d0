package sim

import (
	"fmt"
	"strings"
	"sync"
	"time"
)

// Frame is one message at its sending.
type Frame struct {
	// N numbers all messages of the world; K those of this Kind From To, from
	// 1. Runs are not deterministic: only the latter means anything in another
	// run.
	N, K uint64
	// From and To name hosts; an application on host a is "app@a".
	From, To string
	// Kind is the path and what travels: "raft/AppendEntries", "raft/Heartbeat",
	// "raft/RequestVote-reply", "link-up/hello", "link-up/propose/acquire",
	// "link-down/notice/standing", "ask/founding/promise", "ask/term-reply",
	// "session/acquire", "session-down/answer".
	Kind string
	// True is when, in true time.
	True time.Duration

	from, to party
}

// Key names the frame across runs: "kind from->to #k".
func (f *Frame) Key() string { return frameName(frameKey{f.Kind, f.From, f.To}, f.K) }

func frameName(k frameKey, n uint64) string {
	return fmt.Sprintf("%s %s->%s #%d", k.kind, k.from, k.to, n)
}

// Action is what becomes of a frame.
type Action int

const (
	// Deliver sends it on its way.
	Deliver Action = iota
	// Cut loses it and breaks its connection: both ends of a link or pipe, the
	// one exchange of a raft RPC or a question.
	Cut
	// KillFrom crashes the sender before the message has left.
	KillFrom
	// KillFromSent crashes the sender when the message has left: it arrives.
	KillFromSent
	// KillTo crashes the receiver before the message arrives.
	KillTo
	// RestartFrom, RestartFromSent and RestartTo are the same, and the host
	// comes back after World.RestartDelay.
	RestartFrom
	RestartFromSent
	RestartTo
)

var actionNames = [...]string{"deliver", "cut", "kill from", "kill from, sent", "kill to", "restart from", "restart from, sent", "restart to"}

func (a Action) String() string { return actionNames[a] }

// party is one end of a message's way.
type party struct {
	name string
	host *Host
	// app is the application's end of a local stream; nil for the agent's side
	// of everything.
	app *end
}

type frameKey struct{ kind, from, to string }

// frameCounts is guarded by World.mu.
type frameCounts struct {
	n    uint64
	seen map[frameKey]uint64
}

// FrameCounts is how many frames of each kind were sent. A test that means to
// have met a kind asks here, lest it passes by doing nothing.
func (w *World) FrameCounts() map[string]uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	counts := map[string]uint64{}
	for key, n := range w.frames.seen {
		counts[key.kind] += n
	}
	return counts
}

// verdict is what the sender of a frame does about it.
type verdict struct {
	// lost: the message is dropped and its connection broken.
	lost bool
	// after is called when the message is on its way; nil mostly.
	after func()
}

// emit gives a message its number and asks the hook. The caller holds no lock.
func (w *World) emit(from, to party, kind string) verdict {
	key := frameKey{kind, from.name, to.name}
	w.mu.Lock()
	w.frames.n++
	w.frames.seen[key]++
	n, k, at := w.frames.n, w.frames.seen[key], w.Now()
	if !chatter(kind) {
		w.history.message(event{at: at, key: key, k: k})
	}
	hook := w.hook
	w.mu.Unlock()
	if hook == nil {
		return verdict{}
	}
	f := &Frame{N: n, K: k, From: from.name, To: to.name, Kind: kind, True: at, from: from, to: to}
	action := hook(f)
	if action == Deliver {
		return verdict{}
	}
	w.Logf("%s: %s", f.Key(), action)
	return w.obey(f, action)
}

// chatter is what goes on all the time and would wash the rest out of the
// history.
func chatter(kind string) bool {
	switch kind {
	case "raft/Heartbeat", "raft/Heartbeat-reply", "raft/AppendEntries", "raft/AppendEntries-reply",
		"ask/term", "ask/term-reply", "link-up/beat", "link-down/beat":
		return true
	}
	return strings.HasSuffix(kind, "/beat") || strings.HasSuffix(kind, "-down/lease")
}

func (w *World) obey(f *Frame, action Action) verdict {
	switch action {
	case Cut:
		return verdict{lost: true}
	case KillFrom:
		w.kill(f, f.from, crashPlan{}, false)
		return verdict{lost: true}
	case RestartFrom:
		w.kill(f, f.from, crashPlan{}, true)
		return verdict{lost: true}
	case KillFromSent:
		return verdict{after: func() { w.kill(f, f.from, crashPlan{keepSent: true}, false) }}
	case RestartFromSent:
		return verdict{after: func() { w.kill(f, f.from, crashPlan{keepSent: true}, true) }}
	case KillTo:
		w.kill(f, f.to, crashPlan{}, false)
	case RestartTo:
		w.kill(f, f.to, crashPlan{}, true)
	}
	return verdict{}
}

// kill ends one party. An application is not the world's: its pipes are broken
// and whoever built it is told.
func (w *World) kill(f *Frame, p party, plan crashPlan, restart bool) {
	if p.app != nil {
		w.mu.Lock()
		p.app.die(ErrDead, plan)
		tell := w.onKillApp
		w.mu.Unlock()
		if tell != nil {
			tell(f)
		}
		return
	}
	if p.host == nil {
		return
	}
	p.host.crash(plan)
	if restart {
		p.host.RestartAfter(w.RestartDelay)
	}
}

// Recorder collects the frames of a run, so that others can be aimed at them.
type Recorder struct {
	keep func(*Frame) bool

	mu     sync.Mutex // guards frames
	frames []Frame
}

// Record makes the world's hook one that delivers all and keeps the frames
// that keep says yes to; nil keeps all.
func (w *World) Record(keep func(*Frame) bool) *Recorder {
	r := &Recorder{keep: keep}
	w.OnFrame(r.hook)
	return r
}

func (r *Recorder) hook(f *Frame) Action {
	if r.keep == nil || r.keep(f) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.frames = append(r.frames, *f)
	}
	return Deliver
}

// Frames are the frames kept so far, in order of sending.
func (r *Recorder) Frames() []Frame {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]Frame(nil), r.frames...)
}

// At is a hook that does action to the frame of that key and delivers all
// others. hit reports whether it came by.
func At(key string, action Action) (hook func(*Frame) Action, hit func() bool) {
	var mu sync.Mutex
	done := false
	hook = func(f *Frame) Action {
		if f.Key() != key {
			return Deliver
		}
		mu.Lock()
		defer mu.Unlock()
		done = true
		return action
	}
	hit = func() bool {
		mu.Lock()
		defer mu.Unlock()
		return done
	}
	return hook, hit
}
