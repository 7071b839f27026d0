package raftlock

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	raftlockv1 "github.com/raftlock/raftlock/api/raftlock/v1"
)

const ok = raftlockv1.Reason_REASON_OK

var errCut = errors.New("stream cut")

// host is the clock of agent and process: the bubble's time, plus the pauses
// in which the clock ran and the timers did not.
type host struct {
	start time.Time
	mu    sync.Mutex
	extra time.Duration
}

func newHost() *host { return &host{start: time.Now(), extra: time.Hour} }

func (h *host) now() time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	return time.Since(h.start) + h.extra
}

func (h *host) jump(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.extra += d
}

// cut breaks the stream at one message: request number at, or response.
type cut struct {
	at       int
	response bool
	late     bool // of requests: the agent still takes it, its answers are lost
}

type record struct {
	kind      string
	body      *raftlockv1.SessionRequest
	standing  *raftlockv1.Standing // of acquires
	answer    *raftlockv1.Answer   // of the others
	delivered bool
}

type fakeLock struct {
	holder uint64 // 0: free; stranger: somebody else
	queue  []uint64
}

const stranger = ^uint64(0)

// fake is an agent with the cluster behind it, and a judge of the client: it
// fails the test when the client breaks the contract.
type fake struct {
	t    testing.TB
	host *host
	real func() time.Duration // over a socket: the true clock

	mu       sync.Mutex
	stream   *fakeStream
	away     bool
	silent   bool // no leases
	deaf     bool // requests but beats and greetings are not answered
	shy      bool // Open and Resume are not answered
	cuts     []cut
	requests int
	replies  int
	dials    int
	log      []*raftlockv1.SessionRequest

	id, secret []byte
	opened     bool
	ended      raftlockv1.Reason
	ttl        time.Duration
	v          time.Duration
	token      uint64
	locks      map[string]*fakeLock
	seqs       map[uint64]*record
	mark       uint64
	refuse     map[string]*raftlockv1.Answer // next answer by kind
	attach     func(*raftlockv1.Attached)    // changes the next Attached
	onRequest  func(*raftlockv1.SessionRequest)
	promised   map[uint64]time.Duration // hold: the latest deadline told for it
}

func newFake(t testing.TB) *fake {
	return &fake{t: t, host: newHost(), locks: map[string]*fakeLock{}, seqs: map[uint64]*record{},
		refuse: map[string]*raftlockv1.Answer{}, promised: map[uint64]time.Duration{}}
}

func (f *fake) dial(context.Context) (Stream, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.dials++
	if f.away {
		return nil, errors.New("nobody listens")
	}
	if f.stream != nil {
		f.stream.breakOff()
	}
	f.stream = &fakeStream{agent: f, more: make(chan struct{}, 1), closed: make(chan struct{})}
	return f.stream, nil
}

// session opens one against f.
func (f *fake) session(opts ...Option) *Session {
	f.t.Helper()
	s, err := NewSession(context.Background(), append([]Option{WithDialer(f.dial), WithClock(f.host.now)}, opts...)...)
	if err != nil {
		f.t.Fatalf("open: %v", err)
	}
	f.t.Cleanup(func() { // of a test that failed halfway
		s.stop()
		s.working.Wait()
		s.finishWith(ErrSessionEnded)
	})
	return s
}

type fakeStream struct {
	agent      *fake
	greeted    bool
	resumed    bool
	reconciled bool
	next       uint64
	named      map[uint64]bool

	mu    sync.Mutex
	queue []*raftlockv1.SessionResponse
	more  chan struct{}

	once   sync.Once
	closed chan struct{}
}

func (st *fakeStream) Send(m *raftlockv1.SessionRequest) error {
	select {
	case <-st.closed:
		return errCut
	default:
	}
	f := st.agent
	f.mu.Lock()
	defer f.mu.Unlock()
	f.requests++
	lost, late := f.hit(f.requests, false)
	if lost && !late {
		st.breakOff()
		return nil // a sender learns of a break by its reader
	}
	if late {
		// It is taken, but the client hears no answer to it.
		st.breakOff()
	}
	m = proto.Clone(m).(*raftlockv1.SessionRequest)
	f.log = append(f.log, m)
	f.judge(st, m)
	f.handle(st, m)
	if f.onRequest != nil {
		f.onRequest(m)
	}
	return nil
}

func (f *fake) hit(n int, response bool) (lost, late bool) {
	for _, c := range f.cuts {
		if c.at == n && c.response == response {
			return true, c.late
		}
	}
	return false, false
}

func (st *fakeStream) Recv() (*raftlockv1.SessionResponse, error) {
	for {
		st.mu.Lock()
		if len(st.queue) > 0 {
			m := st.queue[0]
			st.queue = st.queue[1:]
			st.mu.Unlock()
			st.agent.delivered(m)
			return m, nil
		}
		st.mu.Unlock()
		select {
		case <-st.more:
		case <-st.closed:
			return nil, errCut
		}
	}
}

func (st *fakeStream) Close() error { st.breakOff(); return nil }

func (st *fakeStream) breakOff() { st.once.Do(func() { close(st.closed) }) }

// say queues a response. With f.mu held.
func (st *fakeStream) say(m *raftlockv1.SessionResponse) {
	select {
	case <-st.closed:
		return
	default:
	}
	f := st.agent
	f.replies++
	if lost, _ := f.hit(f.replies, true); lost {
		st.breakOff()
		return
	}
	m = proto.Clone(m).(*raftlockv1.SessionResponse)
	st.mu.Lock()
	st.queue = append(st.queue, m)
	st.mu.Unlock()
	nudge(st.more)
}

// delivered notes which answers the client really has.
func (f *fake) delivered(m *raftlockv1.SessionResponse) {
	f.mu.Lock()
	defer f.mu.Unlock()
	note := func(seq uint64) {
		if r := f.seqs[seq]; r != nil {
			r.delivered = true
		}
	}
	standing := func(st *raftlockv1.Standing) {
		note(st.GetSeq())
		if st.GetState() == raftlockv1.Standing_STATE_HELD {
			f.promise(st.Seq, reading(st.DeadlineNanos))
		}
	}
	note(m.GetAttached().GetSeq())
	note(m.GetAnswer().GetSeq())
	standing(m.GetAnswer().GetStanding())
	standing(m.GetUpdate().GetStanding())
	for _, st := range m.GetReconciled().GetStandings() {
		standing(st)
	}
	if v := m.GetLease(); v != nil {
		for seq := range f.promised {
			if st := f.seqs[seq].standing; st == nil || !st.Revoked {
				f.promise(seq, reading(v.DeadlineNanos))
			}
		}
	}
	for _, a := range m.GetReconciled().GetAnswers() {
		note(a.GetSeq())
	}
}

func sequence(m *raftlockv1.SessionRequest) (uint64, string) {
	switch r := m.Request.(type) {
	case *raftlockv1.SessionRequest_Open:
		return r.Open.Seq, "open"
	case *raftlockv1.SessionRequest_Resume:
		return r.Resume.Seq, "resume"
	case *raftlockv1.SessionRequest_Acquire:
		return r.Acquire.Seq, "acquire"
	case *raftlockv1.SessionRequest_Release:
		return r.Release.Seq, "release"
	case *raftlockv1.SessionRequest_SetTtl:
		return r.SetTtl.Seq, "ttl"
	case *raftlockv1.SessionRequest_Beat:
		return 0, "beat"
	case *raftlockv1.SessionRequest_Cancel:
		return 0, "cancel"
	case *raftlockv1.SessionRequest_Reconcile:
		return 0, "reconcile"
	}
	return 0, "end"
}

// judge checks the client's side of the contract.
func (f *fake) judge(st *fakeStream, m *raftlockv1.SessionRequest) {
	seq, kind := sequence(m)
	greeting := kind == "open" || kind == "resume"
	f.check(greeting != st.greeted, "%s: greeted %v", kind, st.greeted)
	st.greeted = true
	if kind == "resume" {
		st.resumed = true
	}
	if st.resumed && !st.reconciled {
		f.check(greeting || kind == "beat" || kind == "reconcile", "%s before reconcile", kind)
	}
	f.judgeAcks(m)
	if c := m.GetBeat(); c != nil {
		f.checkReading(reading(c.ClockNanos))
	}
	if seq == 0 {
		return
	}
	f.check(seq > m.AckMark && !slices.Contains(m.AckAbove, seq), "%s %d is acknowledged in its own request", kind, seq)
	f.check(seq > f.mark, "%s %d at or below the mark %d", kind, seq, f.mark)
	f.check(!st.reconciled || seq >= st.next || st.named[seq], "%s %d is below next %d and was not named", kind, seq, st.next)
	body := proto.Clone(m).(*raftlockv1.SessionRequest)
	body.AckMark, body.AckAbove = 0, nil
	if o := body.GetOpen(); o != nil {
		o.ClockNanos = 0
	}
	r := f.seqs[seq]
	if r == nil {
		f.seqs[seq] = &record{kind: kind, body: body}
		return
	}
	f.check(kind != "resume", "resume %d repeated", seq)
	f.check(proto.Equal(r.body, body), "sequence %d names two requests:\n%v\n%v", seq, r.body, body)
}

func (f *fake) judgeAcks(m *raftlockv1.SessionRequest) {
	f.check(m.AckMark >= f.mark, "mark fell from %d to %d", f.mark, m.AckMark)
	f.mark = max(f.mark, m.AckMark)
	for seq, r := range f.seqs {
		if seq <= m.AckMark || slices.Contains(m.AckAbove, seq) {
			f.check(r.delivered || r.kind == "resume", "%s %d acknowledged without an answer", r.kind, seq)
		}
	}
}

// checkReading: on virtual time a reading taken at sending is the arrival's.
func (f *fake) checkReading(at time.Duration) {
	f.check(at == f.now() || f.real != nil && at < f.now(), "reading of %v at %v", at, f.now())
}

func (f *fake) now() time.Duration {
	if f.real != nil {
		return f.real()
	}
	return f.host.now()
}

func (f *fake) check(good bool, format string, args ...any) {
	if !good {
		f.t.Errorf("contract: "+format, args...)
	}
}

func (f *fake) handle(st *fakeStream, m *raftlockv1.SessionRequest) {
	if f.deaf {
		if _, kind := sequence(m); kind != "beat" && kind != "open" && kind != "resume" {
			return
		}
	}
	switch r := m.Request.(type) {
	case *raftlockv1.SessionRequest_Open:
		f.open(st, r.Open)
	case *raftlockv1.SessionRequest_Resume:
		f.resume(st, r.Resume)
	case *raftlockv1.SessionRequest_Beat:
		f.beat(st, reading(r.Beat.ClockNanos))
	case *raftlockv1.SessionRequest_Acquire:
		f.acquire(st, r.Acquire)
	case *raftlockv1.SessionRequest_Cancel:
		f.cancel(st, r.Cancel.Target)
	case *raftlockv1.SessionRequest_Release:
		f.release(st, r.Release)
	case *raftlockv1.SessionRequest_SetTtl:
		f.setTTL(st, r.SetTtl)
	case *raftlockv1.SessionRequest_Reconcile:
		f.reconcile(st, r.Reconcile)
	case *raftlockv1.SessionRequest_End:
		f.end(raftlockv1.Reason_REASON_SESSION_ENDED)
		st.say(&raftlockv1.SessionResponse{Response: &raftlockv1.SessionResponse_Ended{
			Ended: &raftlockv1.Ended{Reason: raftlockv1.Reason_REASON_SESSION_ENDED}}})
	}
}

func (f *fake) open(st *fakeStream, o *raftlockv1.Open) {
	if !f.opened {
		f.opened, f.id, f.secret, f.ttl = true, o.Session, o.Secret, reading(o.TtlNanos)
	}
	f.check(bytes.Equal(f.id, o.Session) && bytes.Equal(f.secret, o.Secret), "another session")
	f.check(len(o.Session) == 16 && len(o.Secret) == 32, "id and secret of %d and %d bytes", len(o.Session), len(o.Secret))
	f.attached(st, o.Seq, reading(o.ClockNanos))
}

func (f *fake) resume(st *fakeStream, r *raftlockv1.Resume) {
	f.check(f.opened && bytes.Equal(f.id, r.Session) && bytes.Equal(f.secret, r.Secret), "resume of another session")
	f.attached(st, r.Seq, reading(r.ClockNanos))
}

func (f *fake) attached(st *fakeStream, seq uint64, sent time.Duration) {
	f.checkReading(sent)
	if f.shy {
		return
	}
	f.v = max(f.v, sent+holdersShare(f.ttl))
	a := &raftlockv1.Attached{Seq: seq, Reason: ok, DeadlineNanos: uint64(f.v),
		TtlNanos: uint64(f.ttl), ClockNanos: uint64(f.now())}
	if f.ended != 0 {
		a.Reason = f.ended
	}
	if f.attach != nil {
		f.attach(a)
		f.attach = nil
	}
	st.say(&raftlockv1.SessionResponse{Response: &raftlockv1.SessionResponse_Attached{Attached: a}})
}

func (f *fake) beat(st *fakeStream, clock time.Duration) {
	if f.opened && !f.silent {
		f.lease(st, clock+holdersShare(f.ttl))
	}
}

// lease tells a deadline.
func (f *fake) lease(st *fakeStream, v time.Duration) {
	f.v = max(f.v, v)
	st.say(&raftlockv1.SessionResponse{Response: &raftlockv1.SessionResponse_Lease{
		Lease: &raftlockv1.Lease{DeadlineNanos: uint64(v), ClockNanos: uint64(f.now())}}})
}

// promise notes until when a hold may be thought valid. A promise that has
// passed is not renewed, whatever is told.
func (f *fake) promise(seq uint64, v time.Duration) {
	if old, before := f.promised[seq]; !before || f.now() < old {
		f.promised[seq] = max(old, v)
	}
}

func (f *fake) lock(name string) *fakeLock {
	if f.locks[name] == nil {
		f.locks[name] = &fakeLock{}
	}
	return f.locks[name]
}

func (f *fake) refusal(st *fakeStream, kind string, seq uint64) bool {
	a := f.refuse[kind]
	if a == nil {
		return false
	}
	delete(f.refuse, kind)
	a.Seq = seq
	f.answer(st, a)
	return true
}

func (f *fake) answer(st *fakeStream, a *raftlockv1.Answer) {
	st.say(&raftlockv1.SessionResponse{Response: &raftlockv1.SessionResponse_Answer{Answer: a}})
}

func (f *fake) acquire(st *fakeStream, a *raftlockv1.Acquire) {
	if f.refusal(st, "acquire", a.Seq) {
		return
	}
	r := f.seqs[a.Seq]
	if r.standing == nil {
		f.seen(a, r)
	}
	answer := &raftlockv1.Answer{Seq: a.Seq, Reason: ok, Standing: f.told(a.Seq)}
	if r.standing.State == raftlockv1.Standing_STATE_GONE {
		answer.Reason = r.standing.Reason
	}
	f.answer(st, answer)
}

func (f *fake) seen(a *raftlockv1.Acquire, r *record) {
	r.standing = &raftlockv1.Standing{Seq: a.Seq, Lock: a.Lock}
	l := f.lock(a.Lock)
	switch {
	case l.holder == 0:
		f.grant(l, a.Seq)
	case a.Try:
		r.standing.State, r.standing.Reason = raftlockv1.Standing_STATE_GONE, raftlockv1.Reason_REASON_HELD
	default:
		r.standing.State = raftlockv1.Standing_STATE_WAITING
		l.queue = append(l.queue, a.Seq)
	}
}

func (f *fake) grant(l *fakeLock, seq uint64) {
	f.token++
	l.holder = seq
	if r := f.seqs[seq]; r != nil {
		r.standing.State, r.standing.Token = raftlockv1.Standing_STATE_HELD, f.token
	}
}

// told is the standing as it is said.
func (f *fake) told(seq uint64) *raftlockv1.Standing {
	st := proto.Clone(f.seqs[seq].standing).(*raftlockv1.Standing)
	if st.State == raftlockv1.Standing_STATE_HELD {
		if st.DeadlineNanos == 0 {
			st.DeadlineNanos = uint64(f.v)
		}
	}
	return st
}

func (f *fake) update(st *fakeStream, seq uint64) {
	if st == nil {
		return
	}
	st.say(&raftlockv1.SessionResponse{Response: &raftlockv1.SessionResponse_Update{
		Update: &raftlockv1.Update{Standing: f.told(seq)}}})
}

// leave takes a hold or wait away and grants the next, which is told.
func (f *fake) leave(seq uint64, reason raftlockv1.Reason) {
	for _, name := range slices.Sorted(maps.Keys(f.locks)) {
		l := f.locks[name]
		l.queue = slices.DeleteFunc(l.queue, func(q uint64) bool { return q == seq })
		if l.holder != seq {
			continue
		}
		l.holder = 0
		if len(l.queue) > 0 {
			next := l.queue[0]
			l.queue = l.queue[1:]
			f.grant(l, next)
			if next != stranger {
				f.update(f.stream, next)
			}
		}
	}
	if r := f.seqs[seq]; r != nil && r.standing.State != raftlockv1.Standing_STATE_GONE {
		r.standing = &raftlockv1.Standing{Seq: seq, Lock: r.standing.Lock, Reason: reason, State: raftlockv1.Standing_STATE_GONE}
	}
}

func (f *fake) cancel(st *fakeStream, target uint64) {
	r := f.seqs[target]
	if r == nil {
		r = &record{kind: "acquire"}
		f.seqs[target] = r
	}
	if r.standing == nil {
		r.standing = &raftlockv1.Standing{Seq: target, State: raftlockv1.Standing_STATE_WAITING}
	}
	f.leave(target, raftlockv1.Reason_REASON_CANCELLED)
	f.update(st, target)
}

func (f *fake) release(st *fakeStream, r *raftlockv1.Release) {
	f.check(r.Lost == (r.Seq == 0), "release %v", r)
	if r.Seq != 0 && f.refusal(st, "release", r.Seq) {
		return
	}
	hold := f.seqs[r.Hold]
	f.check(hold != nil, "release of unknown %d", r.Hold)
	if hold.standing == nil { // forgotten by a test
		hold.standing = &raftlockv1.Standing{Seq: r.Hold, State: raftlockv1.Standing_STATE_GONE}
	}
	reason := raftlockv1.Reason_REASON_NOT_HELD
	if hold.standing.State == raftlockv1.Standing_STATE_HELD && hold.standing.Token == r.Token {
		reason = ok
		gone := raftlockv1.Reason_REASON_RELEASED
		if r.Lost {
			gone = raftlockv1.Reason_REASON_LOST
		}
		f.leave(r.Hold, gone)
	}
	if r.Seq == 0 {
		f.update(st, r.Hold)
		return
	}
	rec := f.seqs[r.Seq]
	if rec.answer == nil {
		rec.answer = &raftlockv1.Answer{Seq: r.Seq, Reason: reason}
	}
	f.answer(st, rec.answer)
}

func (f *fake) setTTL(st *fakeStream, r *raftlockv1.SetTTL) {
	if f.refusal(st, "ttl", r.Seq) {
		return
	}
	rec := f.seqs[r.Seq]
	if rec.answer == nil {
		f.ttl = reading(r.TtlNanos)
		v := f.now() + holdersShare(f.ttl)
		f.v = min(f.v, v)
		for seq, old := range f.promised {
			f.promised[seq] = min(old, v)
		}
	}
	rec.answer = &raftlockv1.Answer{Seq: r.Seq, Reason: ok, TtlNanos: r.TtlNanos}
	f.answer(st, rec.answer)
}

func (f *fake) reconcile(st *fakeStream, r *raftlockv1.Reconcile) {
	f.check(st.resumed && !st.reconciled, "reconcile out of place")
	st.reconciled, st.next, st.named = true, r.Next, map[uint64]bool{}
	said := &raftlockv1.Reconciled{}
	for i, b := range r.Named {
		f.check(b.Seq < r.Next, "named %d at or above next %d", b.Seq, r.Next)
		f.check(i == 0 || r.Named[i-1].Seq < b.Seq, "named in disorder")
		st.named[b.Seq] = true
		rec := f.seqs[b.Seq]
		switch {
		case rec != nil && rec.standing != nil:
			f.check(b.Lock == rec.standing.Lock, "named %v, known %v", b, rec.standing)
			said.Standings = append(said.Standings, f.told(b.Seq))
		case rec != nil && rec.answer != nil:
			said.Answers = append(said.Answers, rec.answer)
		default:
			said.Unseen = append(said.Unseen, b.Seq)
		}
	}
	for seq, rec := range f.seqs {
		f.check(seq < r.Next, "sequence %d was used, next is %d", seq, r.Next)
		if rec.standing != nil && !st.named[seq] {
			f.leave(seq, raftlockv1.Reason_REASON_RELEASED)
		}
	}
	// What the list above gave away may have granted a named wait.
	for i, standing := range said.Standings {
		said.Standings[i] = f.told(standing.Seq)
	}
	st.say(&raftlockv1.SessionResponse{Response: &raftlockv1.SessionResponse_Reconciled{Reconciled: said}})
}

func (f *fake) end(reason raftlockv1.Reason) {
	f.ended = reason
	for seq, r := range f.seqs {
		if r.standing != nil {
			f.leave(seq, raftlockv1.Reason_REASON_SESSION_ENDED)
		}
	}
}

// The rest is what tests do to the agent and the cluster.

func (f *fake) with(do func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	do()
}

func (f *fake) strangerTakes(name string) {
	f.with(func() {
		l := f.lock(name)
		if l.holder == 0 {
			f.grant(l, stranger)
		} else {
			l.queue = append(l.queue, stranger)
		}
	})
}

func (f *fake) strangerLeaves(name string) {
	f.with(func() {
		if f.lock(name).holder == stranger {
			f.lock(name).holder = 0
			if q := f.lock(name).queue; len(q) > 0 {
				f.lock(name).queue = q[1:]
				f.grant(f.lock(name), q[0])
				if q[0] != stranger {
					f.update(f.stream, q[0])
				}
			}
		}
	})
}

func (f *fake) breakStream() { f.with(func() { f.stream.breakOff() }) }

func (f *fake) tell(m *raftlockv1.SessionResponse) { f.with(func() { f.stream.say(m) }) }

func (f *fake) tellEnded(r raftlockv1.Reason) {
	f.tell(&raftlockv1.SessionResponse{Response: &raftlockv1.SessionResponse_Ended{Ended: &raftlockv1.Ended{Reason: r}}})
}

func (f *fake) tellLease(v time.Duration) { f.with(func() { f.lease(f.stream, v) }) }

// holder is the sequence that has the lock now.
func (f *fake) holder(name string) (seq uint64) {
	f.with(func() { seq = f.lock(name).holder })
	return seq
}

// sent lists the requests that reached the agent, without beats.
func (f *fake) sent() (kinds []string) {
	f.with(func() {
		for _, m := range f.log {
			seq, kind := sequence(m)
			if kind == "release" && seq == 0 {
				kind = "lost"
			}
			if kind != "beat" {
				kinds = append(kinds, kind)
			}
		}
	})
	return kinds
}

// leftovers says what the session still has in the cluster.
func (f *fake) leftovers() (left []string) {
	f.with(func() {
		for name, l := range f.locks {
			for _, seq := range append([]uint64{l.holder}, l.queue...) {
				if seq != 0 && seq != stranger {
					left = append(left, fmt.Sprintf("%s: %d", name, seq))
				}
			}
		}
	})
	return left
}
