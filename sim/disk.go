package sim

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// What a disk fails with.
var (
	// ErrNoSpace: the disk is full. Nothing was written.
	ErrNoSpace = errors.New("no space left on device")
	// ErrIO: an injected failure. The data may have reached the disk or not.
	ErrIO = errors.New("input/output error")
)

// How long one durable write takes.
const (
	writeMin = 500 * time.Microsecond
	writeMax = 4 * time.Millisecond
)

// Disk is a host's disk. What it hands out (Logs, Stable, Snapshots, KV) is of
// the host's incarnation at that moment: after its crash, writes through it
// fail with ErrDead and do nothing, and reads see what was there at the crash.
//
// Writes return when durable, after some virtual time; each is whole or not at
// all, except that a crash may keep a prefix of the entries of one StoreLogs.
// Reads of logs and stable values take no time and are not held by a pause:
// they are in memory in any real store.
//
// A failing write of raft's stable store makes hashicorp/raft panic, in a
// goroutine that no test can guard. Agents catch the error before raft sees it;
// bare raft nodes want StableCrashes.
type Disk struct {
	h   *Host
	rng *rand.Rand

	// Guarded by World.mu.
	next        *volume // what survived the last crash
	failing     float64
	full        bool
	stableCrash bool
	stallUntil  time.Duration
}

func newDisk(h *Host) *Disk { return &Disk{h: h, rng: h.w.Rand("disk/" + h.Name)} }

func (d *Disk) change(note string, f func()) {
	d.h.w.mu.Lock()
	defer d.h.w.mu.Unlock()
	d.h.w.logLocked(fmt.Sprintf("%s: disk %s", d.h.Name, note))
	f()
}

// FailWrites fails each write with probability p; half of those reach the disk
// all the same.
func (d *Disk) FailWrites(p float64) {
	d.change(fmt.Sprintf("fails writes with %v", p), func() { d.failing = p })
}

// Full makes the disk full, or takes that back.
func (d *Disk) Full(full bool) {
	d.change(fmt.Sprintf("full: %v", full), func() { d.full = full })
}

// Stall lets no write end within the next d, those in flight included.
func (d *Disk) Stall(stall time.Duration) {
	d.change(fmt.Sprintf("stalls for %v", stall), func() { d.stallUntil = d.h.w.Now() + stall })
}

// StableCrashes turns a failing write of raft's stable store into what it is
// for a bare raft node: the process panics. The host crashes, and restarts
// after World.RestartDelay.
func (d *Disk) StableCrashes(on bool) {
	d.change(fmt.Sprintf("stable crashes: %v", on), func() { d.stableCrash = on })
}

// Wipe empties the disk: the next incarnation finds nothing. The current one,
// if it lives, crashes.
func (d *Disk) Wipe() {
	d.h.Crash()
	d.change("wiped", func() { d.next = newVolume(d) })
}

func (d *Disk) current() *volume {
	d.h.w.mu.Lock()
	defer d.h.w.mu.Unlock()
	return d.h.inc.volume
}

// crashed decides what survives of an incarnation. The caller holds mu.
func (d *Disk) crashed(inc *incarnation) {
	next := inc.volume.clone()
	for _, w := range inc.volume.inFlight {
		if n := d.rng.IntN(w.parts + 1); n > 0 {
			w.apply(next, n)
		}
	}
	d.next = next
}

// surviving is the volume of the next incarnation. The caller holds mu.
func (d *Disk) surviving() *volume { return d.next }

// volume is a disk's content as one incarnation sees it. A crash copies it, so
// that a ghost keeps a consistent view that nobody else shares. It is guarded
// by World.mu.
type volume struct {
	d        *Disk
	inc      *incarnation
	logs     logs
	stable   map[string][]byte
	numbers  map[string]uint64
	snapshot *snapshot
	files    map[string][]byte
	inFlight []*write
}

// write is one durable change. apply makes the first n of its parts.
type write struct {
	parts int
	apply func(v *volume, n int)
}

func newVolume(d *Disk) *volume {
	return &volume{
		d: d, logs: newLogs(), stable: map[string][]byte{}, numbers: map[string]uint64{}, files: map[string][]byte{},
	}
}

func (v *volume) clone() *volume {
	next := newVolume(v.d)
	next.logs = v.logs.clone()
	copyInto(next.stable, v.stable)
	copyInto(next.numbers, v.numbers)
	copyInto(next.files, v.files)
	next.snapshot = v.snapshot
	return next
}

func copyInto[V any](to, from map[string]V) {
	for k, v := range from {
		to[k] = v
	}
}

// write makes one change durable. It waits in virtual time and takes mu itself.
func (v *volume) write(w *write) error {
	world, d := v.d.h.w, v.d
	world.mu.Lock()
	if v.inc.down {
		world.mu.Unlock()
		return ErrDead
	}
	fraction, chance, lies := d.rng.Float64(), d.rng.Float64(), d.rng.Float64() < 0.5
	failing := chance < d.failing
	due := world.Now() + writeMin + time.Duration(fraction*float64(writeMax-writeMin))
	v.inFlight = append(v.inFlight, w)
	world.mu.Unlock()

	v.settle(due)

	world.mu.Lock()
	defer world.mu.Unlock()
	if v.inc.down {
		return ErrDead // the crash has decided what became of it
	}
	v.land(w)
	switch {
	case d.full:
		return ErrNoSpace
	case failing:
		if lies {
			w.apply(v, w.parts)
		}
		return ErrIO
	}
	w.apply(v, w.parts)
	return nil
}

func (v *volume) land(w *write) {
	for i, other := range v.inFlight {
		if other == w {
			v.inFlight = append(v.inFlight[:i], v.inFlight[i+1:]...)
			return
		}
	}
}

// settle waits until the time is there, the disk does not stall and the host is
// not paused, or the incarnation is dead.
func (v *volume) settle(due time.Duration) {
	w, h := v.d.h.w, v.d.h
	for {
		w.mu.Lock()
		gate, wait, down := h.gate, max(due, v.d.stallUntil)-w.Now(), v.inc.down
		w.mu.Unlock()
		switch {
		case down:
			return
		case wait > 0:
			timer := time.NewTimer(wait)
			select {
			case <-timer.C:
			case <-v.inc.ctx.Done():
				timer.Stop()
			}
		case gate != nil:
			select {
			case <-gate:
			case <-v.inc.ctx.Done():
			}
		default:
			return
		}
		if v.inc.ctx.Err() != nil {
			return
		}
	}
}
