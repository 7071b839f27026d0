package sim

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
)

// Net is the network and its faults. All methods are safe for concurrent use
// and take effect at once, on messages in flight too.
//
// A cut loses datagrams (raft RPCs, questions, hellos) that are sent or arrive
// while it lasts. Streams (links) hold their messages: if the cut ends within
// BreakAfter everything arrives in order, else both ends break then. Traffic
// of a host with itself is never cut or lost.
type Net struct {
	// BreakAfter is how long a stream hangs across a cut before it breaks;
	// RPCTimeout is how long a raft RPC waits for its answer (a snapshot ten
	// times that), DialTimeout a link for its welcome, where the caller's
	// context ends no sooner. Set them before traffic starts.
	BreakAfter, RPCTimeout, DialTimeout time.Duration

	w *World

	// Guarded by World.mu.
	rng                [][]*rand.Rand // per directed link
	groups             []int
	cuts               map[[2]int]bool
	muted, heartbeats  map[int]bool
	minDelay, maxDelay time.Duration
	loss               float64
	straggling         float64
	straggle           time.Duration
}

// The delays of a network that nobody made slower.
const (
	DelayLeast = 200 * time.Microsecond
	DelayMost  = 3 * time.Millisecond
)

func newNet(w *World) *Net {
	return &Net{
		BreakAfter: 10 * time.Second, RPCTimeout: 700 * time.Millisecond, DialTimeout: 5 * time.Second,
		w: w, cuts: map[[2]int]bool{}, muted: map[int]bool{}, heartbeats: map[int]bool{},
		minDelay: DelayLeast, maxDelay: DelayMost,
	}
}

// grow makes the streams of a new host. The caller holds mu.
func (n *Net) grow() {
	last := len(n.w.hosts) - 1
	n.groups = append(n.groups, 0)
	n.rng = append(n.rng, nil)
	for i := range n.rng {
		for j := len(n.rng[i]); j <= last; j++ {
			n.rng[i] = append(n.rng[i], n.w.Rand(fmt.Sprintf("net/%d/%d", i, j)))
		}
	}
}

// plan draws one message's delay, and whether it is lost. Each message draws
// the same number of values, whatever the settings. The caller holds mu.
func (n *Net) plan(from, to *Host) (delay time.Duration, lost bool) {
	r := n.rng[from.index][to.index]
	fraction, late, chance, howLate := r.Float64(), r.Float64(), r.Float64(), r.Float64()
	if from == to {
		return 20*time.Microsecond + time.Duration(fraction*float64(100*time.Microsecond)), false
	}
	delay = n.minDelay + time.Duration(fraction*float64(n.maxDelay-n.minDelay))
	if late < n.straggling {
		delay += time.Duration(howLate * float64(n.straggle))
	}
	return delay, chance < n.loss
}

// blocked reports whether messages from one host cannot reach the other. The
// caller holds mu.
func (n *Net) blocked(from, to *Host, heartbeat bool) bool {
	if from == to {
		return false
	}
	return n.groups[from.index] != n.groups[to.index] ||
		n.muted[from.index] ||
		n.heartbeats[to.index] && !heartbeat ||
		len(n.cuts) > 0 && n.cuts[[2]int{from.index, to.index}]
}

// change makes one change of the faults, with a note, and has everything that
// was held look again.
func (n *Net) change(note string, f func()) {
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	n.w.logLocked("net: " + note)
	f()
	n.w.kick()
}

// Partition splits the hosts: who is in different groups cannot talk. Hosts
// that are not named form one more group. It replaces an earlier partition.
func (n *Net) Partition(groups ...[]*Host) {
	n.change("partition "+groupNames(groups), func() {
		clear(n.groups)
		for i, group := range groups {
			for _, h := range group {
				n.groups[h.index] = i + 1
			}
		}
	})
}

func groupNames(groups [][]*Host) string {
	var b strings.Builder
	for _, group := range groups {
		fmt.Fprint(&b, group)
	}
	return b.String()
}

// Isolate cuts a host off from all others, both ways.
func (n *Net) Isolate(h *Host) {
	n.change("isolate "+h.Name, func() {
		for _, other := range n.w.hosts {
			if other != h {
				n.cuts[[2]int{h.index, other.index}] = true
				n.cuts[[2]int{other.index, h.index}] = true
			}
		}
	})
}

// Cut cuts one way: nothing from a reaches b.
func (n *Net) Cut(a, b *Host) {
	n.change(fmt.Sprintf("cut %s->%s", a, b), func() { n.cuts[[2]int{a.index, b.index}] = true })
}

// CutBoth cuts both ways.
func (n *Net) CutBoth(a, b *Host) {
	n.change(fmt.Sprintf("cut %s<->%s", a, b), func() {
		n.cuts[[2]int{a.index, b.index}] = true
		n.cuts[[2]int{b.index, a.index}] = true
	})
}

// Mute loses all that the host sends; it still hears.
func (n *Net) Mute(h *Host) {
	n.change("mute "+h.Name, func() { n.muted[h.index] = true })
}

// HeartbeatsOnly lets nothing get in to the host but raft's empty heartbeats;
// what it sends gets out.
func (n *Net) HeartbeatsOnly(h *Host) {
	n.change("heartbeats only to "+h.Name, func() { n.heartbeats[h.index] = true })
}

// HoldTo keeps everything to the host in flight until the given true time and
// a little longer. Datagrams that it held keep to that time even after a heal.
func (n *Net) HoldTo(h *Host, until time.Duration) {
	n.change(fmt.Sprintf("hold to %s until %v", h, until), func() { h.holdUntil = until })
}

// Heal ends partitions, cuts, mutes, HeartbeatsOnly and holds; delays, losses
// and pauses stay.
func (n *Net) Heal() {
	n.change("heal", func() {
		clear(n.groups)
		clear(n.cuts)
		clear(n.muted)
		clear(n.heartbeats)
		for _, h := range n.w.hosts {
			h.holdUntil = 0
		}
	})
}

// SetLoss loses each datagram with probability p. A stream that loses a
// message hangs and breaks within BreakAfter.
func (n *Net) SetLoss(p float64) {
	n.change(fmt.Sprintf("loss %v", p), func() { n.loss = p })
}

// SetDelay bounds the delay of messages, each way.
func (n *Net) SetDelay(least, most time.Duration) {
	n.change(fmt.Sprintf("delay %v to %v", least, most), func() { n.minDelay, n.maxDelay = least, most })
}

// SetStragglers delays each message, with probability p, by up to most in
// addition, so that others overtake it; on a stream they wait behind it.
func (n *Net) SetStragglers(p float64, most time.Duration) {
	n.change(fmt.Sprintf("stragglers %v, %v", p, most), func() { n.straggling, n.straggle = p, most })
}

// addressLocked gives a host a fresh address.
func (w *World) addressLocked(h *Host) {
	w.addresses++
	h.addr = fmt.Sprintf("%s:%d", h.Name, 7000+w.addresses)
	w.routes[h.addr] = h
}

// Resolve is the host that answers at addr now, or nil.
func (w *World) Resolve(addr string) *Host {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.routes[addr]
}

// MoveAddr gives an address to another host, whose own address it becomes; its
// former one still leads to it. Who had it before gets a fresh one, though its
// running incarnation does not know. Connections made through addr break.
func (w *World) MoveAddr(addr string, to *Host) {
	w.mu.Lock()
	defer w.mu.Unlock()
	former := w.routes[addr]
	w.logLocked(fmt.Sprintf("net: address %s moves to %s", addr, to))
	w.routes[addr] = to
	to.addr = addr
	if former != nil && former != to && former.addr == addr {
		w.addressLocked(former)
	}
	w.breakThrough(addr)
}

// NewAddr gives a host a fresh address and takes all former ones away: nobody
// answers there. Connections made through them break.
func (w *World) NewAddr(h *Host) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	for addr, owner := range w.routes {
		if owner == h {
			delete(w.routes, addr)
			w.breakThrough(addr)
		}
	}
	w.addressLocked(h)
	w.logLocked(fmt.Sprintf("net: %s has the new address %s", h, h.addr))
	return h.addr
}

// breakThrough breaks the streams that were dialled at addr. The caller holds
// mu.
func (w *World) breakThrough(addr string) {
	for _, s := range append([]*stream(nil), w.streams...) {
		if s.addr == addr {
			s.breakBoth(ErrBroken)
		}
	}
}

// kick has everything that was held by a fault look again. The caller holds mu.
func (w *World) kick() {
	held := w.held
	w.held = nil
	for _, p := range held {
		time.AfterFunc(0, p.arrive)
	}
	for _, s := range append([]*stream(nil), w.streams...) {
		s.look()
	}
}
