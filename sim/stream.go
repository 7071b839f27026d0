package sim

import (
	"fmt"
	"sync"
	"time"
)

// backlogMax bounds the batches of one direction that are in flight or unread;
// past it the stream breaks.
const backlogMax = 4096

// stream is a connection of messages: each direction delivers in order, or the
// stream breaks. It is guarded by World.mu.
type stream struct {
	w    *World
	ends [2]*end // who dialled, who was dialled
	addr string  // what was dialled; empty for local streams
	// silent: one side vanished without a word.
	silent bool
	// hanging runs while the stream cannot work, and breaks it.
	hanging *time.Timer
	gone    bool
}

// end is one side of a stream and the direction away from it.
type end struct {
	s     *stream
	peer  *end
	party party
	inc   *incarnation // nil for an application's end
	// kind begins the names of the frames that this end sends.
	kind string

	// What was sent and has not arrived at the peer.
	flying  []item
	lastDue time.Duration
	stalled bool
	timer   *time.Timer
	wakeAt  time.Duration // when timer fires; 0: not armed

	// What arrived here and was not read. arrived has World.mu as its lock.
	unread  []any
	arrived *sync.Cond
	err     error
}

// item is a batch in flight, or with fin the news that its sender is gone.
type item struct {
	due     time.Duration
	payload any
	fin     bool
}

// newStream connects two ends. The caller holds mu, and looks once.
func (w *World) newStream(addr string, a, b *end) *stream {
	s := &stream{w: w, addr: addr, ends: [2]*end{a, b}}
	a.peer, b.peer = b, a
	for _, e := range s.ends {
		e.s = s
		e.arrived = sync.NewCond(&w.mu)
	}
	w.streams = append(w.streams, s)
	for _, e := range s.ends {
		switch {
		case w.closed:
			e.fail(ErrClosed)
		case e.inc != nil && e.inc.down:
			e.die(ErrDead, crashPlan{})
		}
	}
	return s
}

// send puts one batch on its way; kinds name its messages.
func (e *end) send(payload any, kinds ...string) error {
	w := e.s.w
	if err := e.broken(); err != nil {
		return err
	}
	lost := false
	var afters []func()
	for _, kind := range kinds {
		v := w.emit(e.party, e.peer.party, e.kind+"/"+kind)
		lost = lost || v.lost
		if v.after != nil {
			afters = append(afters, v.after)
		}
	}
	err := e.push(payload, lost)
	for _, after := range afters {
		after()
	}
	return err
}

func (e *end) broken() error {
	e.s.w.mu.Lock()
	defer e.s.w.mu.Unlock()
	return e.err
}

func (e *end) push(payload any, lost bool) error {
	w := e.s.w
	w.mu.Lock()
	defer w.mu.Unlock()
	if e.err != nil {
		return e.err
	}
	if lost {
		e.die(ErrBroken, crashPlan{keepSent: true})
		return ErrBroken
	}
	if len(e.flying)+len(e.peer.unread) >= backlogMax {
		e.s.breakBoth(ErrOverflow)
		return ErrOverflow
	}
	if e.enqueue(item{payload: payload}) && !e.stalled {
		e.stall()
	}
	e.pump()
	return nil
}

// enqueue sends an item after all before it, and reports whether the network
// loses it.
func (e *end) enqueue(it item) (lost bool) {
	w := e.s.w
	delay, lost := w.Net.plan(e.party.host, e.peer.party.host)
	it.due = max(e.lastDue, w.Now()+delay)
	e.lastDue = it.due
	e.flying = append(e.flying, it)
	return lost
}

// stall is what becomes of a direction that lost a message: nothing arrives
// any more, and within BreakAfter the stream breaks.
func (e *end) stall() {
	e.stalled = true
	w := e.s.w
	r := w.Net.rng[e.party.host.index][e.peer.party.host.index]
	after := time.Duration(r.Float64() * float64(w.Net.BreakAfter))
	time.AfterFunc(after, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		e.s.breakBoth(ErrBroken)
	})
}

// recv waits for a batch. What arrived before the stream broke is read first.
func (e *end) recv() (any, error) {
	w := e.s.w
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(e.unread) == 0 && e.err == nil {
		e.arrived.Wait()
	}
	if len(e.unread) == 0 {
		return nil, e.err
	}
	payload := e.unread[0]
	e.unread[0] = nil
	e.unread = e.unread[1:]
	return payload, nil
}

func (e *end) close() {
	e.s.w.mu.Lock()
	defer e.s.w.mu.Unlock()
	e.die(ErrClosed, crashPlan{keepSent: true})
}

// pump delivers what is due. What a fault holds stays; kick calls again.
func (e *end) pump() {
	w := e.s.w
	for len(e.flying) > 0 {
		from, to := e.party.host, e.peer.party.host
		if e.stalled || from.gate != nil || to.gate != nil || w.Net.blocked(from, to, false) {
			return
		}
		due := e.flying[0].due
		if from != to {
			due = max(due, to.holdUntil)
		}
		if due > w.Now() {
			e.wake(due)
			return
		}
		it := e.flying[0]
		e.flying[0] = item{}
		e.flying = e.flying[1:]
		e.peer.take(it)
	}
}

// wake has pump called at a time, or earlier.
func (e *end) wake(at time.Duration) {
	w := e.s.w
	if e.wakeAt > 0 && e.wakeAt <= at {
		return
	}
	e.wakeAt = at
	if e.timer != nil {
		e.timer.Reset(at - w.Now())
		return
	}
	e.timer = time.AfterFunc(at-w.Now(), func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		e.wakeAt = 0
		e.pump()
	})
}

func (e *end) take(it item) {
	switch {
	case it.fin:
		e.fail(ErrBroken)
	case e.err == nil:
		e.unread = append(e.unread, it.payload)
		e.arrived.Signal()
	}
}

// fail breaks this end alone. What it has unread can still be read.
func (e *end) fail(err error) {
	if e.err != nil {
		return
	}
	e.err = err
	e.arrived.Broadcast()
	e.s.reap()
}

// die breaks this end from its own side: nothing is read here any more, of what
// it sent a part arrives, then the news.
func (e *end) die(err error, plan crashPlan) {
	if e.err != nil {
		return
	}
	e.unread = nil
	if !plan.keepSent && len(e.flying) > 0 {
		e.flying = e.flying[:e.party.host.local.IntN(len(e.flying)+1)]
	}
	switch {
	case !plan.silent:
		e.enqueue(item{fin: true})
	case e.party.host == e.peer.party.host:
		e.peer.fail(err) // both were on the machine
	default:
		e.s.silent = true
	}
	e.fail(err)
	e.s.look()
}

// breakEnds is what a crash does to the incarnation's streams.
func (i *incarnation) breakEnds(plan crashPlan) {
	for _, s := range append([]*stream(nil), i.host.w.streams...) {
		for _, e := range s.ends {
			if e.inc == i {
				e.die(ErrDead, plan)
			}
		}
	}
}

func (s *stream) breakBoth(err error) {
	for _, e := range s.ends {
		e.fail(err)
	}
}

// look takes note of changed faults: it starts or stops the time after which a
// hanging stream breaks, and moves on what is free to move.
func (s *stream) look() {
	if s.gone {
		return
	}
	a, b := s.ends[0].party.host, s.ends[1].party.host
	hangs := s.silent || s.w.Net.blocked(a, b, false) || s.w.Net.blocked(b, a, false)
	switch {
	case hangs && s.hanging == nil:
		s.hang()
	case !hangs && s.hanging != nil:
		s.hanging.Stop()
		s.hanging = nil
	}
	for _, e := range s.ends {
		e.pump()
	}
}

func (s *stream) hang() {
	w := s.w
	var timer *time.Timer
	timer = time.AfterFunc(w.Net.BreakAfter, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		if s.hanging == timer { // else a heal was faster
			s.breakBoth(fmt.Errorf("hung for %v: %w", w.Net.BreakAfter, ErrBroken))
		}
	})
	s.hanging = timer
}

// reap forgets a stream that is broken on both sides.
func (s *stream) reap() {
	if s.gone || s.ends[0].err == nil || s.ends[1].err == nil {
		return
	}
	s.gone = true
	if s.hanging != nil {
		s.hanging.Stop()
	}
	for _, e := range s.ends {
		e.flying = nil
		if e.timer != nil {
			e.timer.Stop()
		}
	}
	for i, other := range s.w.streams {
		if other == s {
			s.w.streams = append(s.w.streams[:i:i], s.w.streams[i+1:]...)
			return
		}
	}
}
