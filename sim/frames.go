package sim

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"slices"
	"strings"
	"sync"
	"time"
)

// FrameRef names a frame of a short story so that it means the same in another
// run of it: hosts by their roles, and counted from the story's beginning.
type FrameRef struct {
	Kind, From, To string
	K              uint64
}

func (r FrameRef) String() string {
	return fmt.Sprintf("%s %s->%s #%d", r.Kind, r.From, r.To, r.K)
}

// FrameFault is one thing done to one frame.
type FrameFault struct {
	Frame  FrameRef
	Action Action
	// Relink replaces the action: the frame arrives, and then its stream breaks
	// at the sender's end. The answer is lost; who asked connects anew, says
	// what it believes, and asks again.
	Relink bool
}

func (f FrameFault) String() string {
	if f.Relink {
		return "relink at " + f.Frame.String()
	}
	return f.Action.String() + " at " + f.Frame.String()
}

// rank orders faults by nothing but their names and a seed.
func (f FrameFault) rank(seed uint64) uint64 {
	h := fnv.New64a()
	fmt.Fprintf(h, "%d %s", seed, f)
	x := h.Sum64() // FNV alone leaves the high bits of like names alike
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	return x ^ x>>29
}

// FaultsOf are all faults that one frame can meet: it is lost with its
// connection, or delivered and the connection lost; its sender dies before or
// after, its receiver before. An agent comes back at once or, where it is
// killed, when the world is healed; an application never does.
func FaultsOf(f *Frame) []FrameFault {
	actions := []Action{Cut, KillFrom, KillFromSent, KillTo}
	if f.from.app == nil {
		actions = append(actions, RestartFrom, RestartFromSent)
	}
	if f.to.app == nil {
		actions = append(actions, RestartTo)
	}
	var out []FrameFault
	for _, a := range actions {
		out = append(out, FrameFault{Action: a})
	}
	if streamed(f.Kind) {
		out = append(out, FrameFault{Relink: true})
	}
	return out
}

// streamed tells a frame of a stream from a datagram. A datagram is repeated
// when its answer is cut.
func streamed(kind string) bool {
	path, _, _ := strings.Cut(kind, "/")
	return path != "raft" && path != "ask" && kind != "link-up/hello" && kind != "link-down/welcome"
}

// Aim is a hook's memory: it names frames from its arming on, keeps them, and
// does its fault to the one it is aimed at.
type Aim struct {
	w    *World
	keep func(*Frame) bool

	mu     sync.Mutex // guards the rest
	roles  map[string]string
	seen   map[FrameRef]uint64 // by a reference without K
	kept   map[FrameRef][]FrameFault
	target FrameFault
	hit    *Frame
}

// AimAt makes an unarmed Aim; without a target it only keeps what keep likes.
func AimAt(w *World, target FrameFault, keep func(*Frame) bool) *Aim {
	return &Aim{
		w: w, keep: keep, target: target,
		seen: make(map[FrameRef]uint64), kept: make(map[FrameRef][]FrameFault),
	}
}

// Arm begins the counting. roles are the hosts whose name is not their role.
func (a *Aim) Arm(roles map[string]string) {
	a.roles = roles
	a.w.OnFrame(a.hook)
}

// Faults are all that can be done to the frames kept so far, in no order that
// means anything.
func (a *Aim) Faults() []FrameFault {
	a.mu.Lock()
	defer a.mu.Unlock()
	var out []FrameFault
	for _, faults := range a.kept {
		out = append(out, faults...)
	}
	slices.SortFunc(out, func(x, y FrameFault) int { return cmp.Compare(x.String(), y.String()) })
	return out
}

// Hit is the frame that met the fault, or nil.
func (a *Aim) Hit() *Frame {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.hit
}

func (a *Aim) role(name string) string {
	app, host, isApp := strings.Cut(name, "@")
	if !isApp {
		host = name
	}
	if r, ok := a.roles[host]; ok {
		host = r
	}
	if isApp {
		return app + "@" + host
	}
	return host
}

func (a *Aim) hook(f *Frame) Action {
	if !a.keep(f) {
		return Deliver
	}
	a.mu.Lock()
	ref := FrameRef{Kind: f.Kind, From: a.role(f.From), To: a.role(f.To)}
	a.seen[ref]++
	ref.K = a.seen[ref]
	if a.target.Frame.Kind == "" {
		faults := FaultsOf(f)
		for i := range faults {
			faults[i].Frame = ref
		}
		a.kept[ref] = faults
	}
	aimed := ref == a.target.Frame
	if aimed {
		a.hit = f
	}
	a.mu.Unlock()
	if !aimed {
		return Deliver
	}
	if a.target.Relink {
		a.w.Logf("%s: relink", f.Key())
		a.w.breakBehind(f)
		return Deliver
	}
	return a.target.Action
}

// breakBehind breaks a frame's stream at its sender's end as soon as the frame
// is on its way.
func (w *World) breakBehind(f *Frame) {
	kind, _, _ := strings.Cut(f.Kind, "/")
	time.AfterFunc(time.Nanosecond, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, s := range slices.Backward(w.streams) {
			for _, e := range s.ends {
				if e.err == nil && e.kind == kind && e.party.name == f.From && e.peer.party.name == f.To {
					e.die(ErrBroken, crashPlan{keepSent: true})
					return
				}
			}
		}
	})
}
