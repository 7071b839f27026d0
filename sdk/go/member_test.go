package raftlock

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	raftlockv1 "github.com/raftlock/raftlock/api/raftlock/v1"
)

// doorman is an agent as joined processes see it: it answers joins and notes
// what they send. It fails the test when they send anything else.
type doorman struct {
	t    testing.TB
	host *host
	pass Pass

	mu      sync.Mutex
	streams []*doorStream
	answers []raftlockv1.Reason // the next ones; then OK
	away    bool
	silent  bool
	ttl     time.Duration
	joins   int
	beats   []time.Duration
}

type doorStream struct {
	door   *doorman
	joined bool
	say    chan *raftlockv1.SessionResponse
	once   sync.Once
	closed chan struct{}
}

func newDoorman(t testing.TB) *doorman {
	return &doorman{t: t, host: newHost(), pass: somePass(), ttl: 9 * time.Second}
}

func (d *doorman) dial(context.Context) (Stream, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.away {
		return nil, errors.New("nobody listens")
	}
	st := &doorStream{door: d, say: make(chan *raftlockv1.SessionResponse, 16), closed: make(chan struct{})}
	d.streams = append(d.streams, st)
	return st, nil
}

func (d *doorman) client() *Client {
	d.t.Helper()
	c, err := Dial(d.t.Context(), WithDialer(d.dial), WithClock(d.host.now))
	if err != nil {
		d.t.Fatal(err)
	}
	return c
}

func (d *doorman) with(do func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	do()
}

func (st *doorStream) Send(m *raftlockv1.SessionRequest) error {
	select {
	case <-st.closed:
		return errCut
	default:
	}
	d := st.door
	d.mu.Lock()
	defer d.mu.Unlock()
	switch r := m.Request.(type) {
	case *raftlockv1.SessionRequest_Join:
		if st.joined || !bytes.Equal(r.Join.Session, d.pass.id[:]) || !bytes.Equal(r.Join.Secret, d.pass.secret[:]) {
			d.t.Errorf("contract: join %v", r.Join)
		}
		st.joined = true
		d.joins++
		d.now(r.Join.ClockNanos)
		d.answer(st)
	case *raftlockv1.SessionRequest_Beat:
		d.now(r.Beat.ClockNanos)
		d.beats = append(d.beats, d.host.now())
	default:
		d.t.Errorf("contract: a member sent %v", m)
	}
	return nil
}

func (d *doorman) now(nanos uint64) {
	if reading(nanos) != d.host.now() {
		d.t.Errorf("contract: a reading of %v at %v", reading(nanos), d.host.now())
	}
}

func (d *doorman) answer(st *doorStream) {
	if d.silent {
		return
	}
	a := &raftlockv1.Attached{Reason: ok, TtlNanos: uint64(d.ttl), ClockNanos: uint64(d.host.now())}
	if len(d.answers) > 0 {
		a.Reason, d.answers = d.answers[0], d.answers[1:]
	}
	st.say <- &raftlockv1.SessionResponse{Response: &raftlockv1.SessionResponse_Attached{Attached: a}}
}

func (st *doorStream) Recv() (*raftlockv1.SessionResponse, error) {
	select {
	case m := <-st.say:
		return m, nil
	case <-st.closed:
		return nil, errCut
	}
}

func (st *doorStream) Close() error {
	st.once.Do(func() { close(st.closed) })
	return nil
}

func (d *doorman) last() (st *doorStream) {
	d.with(func() { st = d.streams[len(d.streams)-1] })
	return st
}

func TestMemberBeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDoorman(t)
		start := d.host.now()
		m, err := d.client().Join(t.Context(), d.pass)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(3500 * time.Millisecond)
		// The TTL was changed by the opener: the agent attaches anew, so to say.
		d.with(func() { d.ttl = 900 * time.Millisecond; d.answer(d.streams[0]) })
		time.Sleep(299 * time.Millisecond)
		m.Close()
		var want []time.Duration
		for _, at := range []time.Duration{1000, 2000, 3000, 3500, 3600, 3700} {
			want = append(want, start+at*time.Millisecond)
		}
		if !slices.Equal(d.beats, want) {
			t.Errorf("beats at %v, want %v", d.beats, want)
		}
		if d.joins != 1 {
			t.Errorf("%d joins", d.joins)
		}
	})
}

func TestMemberJoinsAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDoorman(t)
		m, err := d.client().Join(t.Context(), d.pass)
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			var beats int
			d.with(func() { d.away = true })
			_ = d.last().Close()
			time.Sleep(20 * time.Second)
			d.with(func() { d.away = false; d.beats = nil })
			time.Sleep(3 * time.Second)
			if d.with(func() { beats = len(d.beats) }); beats < 2 {
				t.Errorf("%d beats after a join", beats)
			}
		}
		select {
		case <-m.Done():
			t.Errorf("over: %v", m.Err())
		default:
		}
		m.Close()
		if d.joins != 4 {
			t.Errorf("%d joins", d.joins)
		}
	})
}

func TestAnswersToJoin(t *testing.T) {
	for _, c := range []struct {
		reason raftlockv1.Reason
		want   error
	}{
		{ok, nil},
		{raftlockv1.Reason_REASON_NO_LEADER, nil},
		{raftlockv1.Reason_REASON_NO_QUORUM, nil},
		{raftlockv1.Reason_REASON_QUEUE_FULL, nil},
		{raftlockv1.Reason_REASON_RATE_LIMITED, nil},
		{raftlockv1.Reason_REASON_NOT_FOUND, nil},
		{raftlockv1.Reason_REASON_SESSION_ENDED, ErrSessionEnded},
		{raftlockv1.Reason_REASON_DENIED, ErrDenied},
		{raftlockv1.Reason_REASON_LIMIT, ErrLimit},
		{raftlockv1.Reason_REASON_INVALID, ErrInvalid},
	} {
		t.Run(c.reason.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := newDoorman(t)
				d.answers = []raftlockv1.Reason{c.reason}
				m, err := d.client().Join(t.Context(), d.pass)
				if !errors.Is(err, c.want) {
					t.Fatalf("%v", err)
				}
				if err == nil {
					m.Close()
					if !errors.Is(m.Err(), ErrClosed) {
						t.Errorf("closed: %v", m.Err())
					}
				}
				for _, st := range d.streams {
					<-st.closed // none is left open
				}
			})
		})
	}
}

func TestJoinOfAnUnknownSessionEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDoorman(t)
		d.answers = slices.Repeat([]raftlockv1.Reason{raftlockv1.Reason_REASON_NOT_FOUND}, 1000)
		start := time.Now()
		_, err := d.client().Join(t.Context(), d.pass)
		if !errors.Is(err, ErrNotFound) {
			t.Errorf("%v", err)
		}
		if took := time.Since(start); took < unknownMin || took > unknownMin+2*redialMax {
			t.Errorf("after %v", took)
		}
	})
}

func TestMemberOutlivesAnAgentThatForgot(t *testing.T) {
	for _, c := range []struct {
		name    string
		refusal int
		over    bool
	}{{"resumed in time", 10, false}, {"never resumed", 1000, true}} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := newDoorman(t)
				m, err := d.client().Join(t.Context(), d.pass)
				if err != nil {
					t.Fatal(err)
				}
				defer m.Close()
				d.with(func() { d.answers = slices.Repeat([]raftlockv1.Reason{raftlockv1.Reason_REASON_NOT_FOUND}, c.refusal) })
				_ = d.last().Close()
				time.Sleep(2*d.ttl + 2*time.Second)
				if err := m.Err(); (err != nil) != c.over || c.over && (!errors.Is(err, ErrSessionEnded) || !errors.Is(err, ErrNotFound)) {
					t.Errorf("%v", err)
				}
			})
		})
	}
}

func TestMemberHearsOfTheEnd(t *testing.T) {
	for _, c := range []struct {
		reason raftlockv1.Reason
		is     []error
		not    error
	}{
		{raftlockv1.Reason_REASON_EXPIRED, []error{ErrSessionEnded, ErrExpired}, ErrUnnamed},
		{raftlockv1.Reason_REASON_SESSION_ENDED, []error{ErrSessionEnded}, ErrUnnamed},
		{ok, []error{ErrSessionEnded}, ErrUnnamed}, // the opener ended it
		{raftlockv1.Reason_REASON_SUPERSEDED, []error{ErrSuperseded}, ErrSessionEnded},
	} {
		t.Run(c.reason.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := newDoorman(t)
				m, err := d.client().Join(t.Context(), d.pass)
				if err != nil {
					t.Fatal(err)
				}
				d.last().say <- &raftlockv1.SessionResponse{Response: &raftlockv1.SessionResponse_Ended{
					Ended: &raftlockv1.Ended{Reason: c.reason}}}
				<-m.Done()
				err = m.Err()
				for _, is := range c.is {
					if !errors.Is(err, is) {
						t.Errorf("%v is not %v", err, is)
					}
				}
				if errors.Is(err, c.not) {
					t.Errorf("%v is %v", err, c.not)
				}
				m.Close()
				m.Close()
				if m.Err() != err || d.joins != 1 {
					t.Errorf("closed: %v, %d joins", m.Err(), d.joins)
				}
			})
		})
	}
}

// The doorman fails the test for anything but Join and Beat.
func TestMemberLeavesNothingEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDoorman(t)
		m, err := d.client().Join(t.Context(), d.pass)
		if err != nil {
			t.Fatal(err)
		}
		m.Close()
		select {
		case <-m.Done():
		default:
			t.Error("not done")
		}
		<-d.last().closed
		time.Sleep(time.Minute)
		if d.joins != 1 || len(d.streams) != 1 {
			t.Errorf("%d joins over %d streams", d.joins, len(d.streams))
		}
	})
}

func TestJoinGivesUpWithItsContext(t *testing.T) {
	for _, c := range []struct {
		name    string
		prepare func(*doorman)
		want    error
		applied Applied
	}{
		{"nobody there", func(d *doorman) { d.away = true }, context.DeadlineExceeded, AppliedNo},
		{"no answer", func(d *doorman) { d.silent = true }, ErrCancelled, AppliedUnknown},
		{"no quorum", func(d *doorman) {
			d.silent = true
			time.AfterFunc(time.Second, func() {
				d.last().say <- &raftlockv1.SessionResponse{Response: &raftlockv1.SessionResponse_Reach{Reach: &raftlockv1.Reach{Reason: noQuorum}}}
			})
		}, ErrNoQuorum, AppliedUnknown},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := newDoorman(t)
				c.prepare(d)
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				_, err := d.client().Join(ctx, d.pass)
				if e := new(Error); !errors.Is(err, c.want) || !errors.Is(err, context.DeadlineExceeded) || !errors.As(err, &e) || e.Applied != c.applied {
					t.Errorf("%v", err)
				}
			})
		})
	}
}

func TestJoinFindsAnotherClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDoorman(t)
		c, err := Dial(t.Context(), WithDialer(func(ctx context.Context) (Stream, error) {
			st, err := d.dial(ctx)
			return offStream{st}, err
		}), WithClock(d.host.now))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Join(t.Context(), d.pass); !errors.Is(err, ErrClock) {
			t.Errorf("%v", err)
		}
	})
}

// offStream's agent reads another clock.
type offStream struct{ Stream }

func (st offStream) Recv() (*raftlockv1.SessionResponse, error) {
	m, err := st.Stream.Recv()
	if a := m.GetAttached(); a != nil {
		a.ClockNanos += uint64(time.Hour)
	}
	return m, err
}

func TestSessionsPass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		s := f.session()
		p := s.Pass()
		if !bytes.Equal(p.id[:], f.id) || !bytes.Equal(p.secret[:], f.secret) {
			t.Errorf("%v", p)
		}
		_ = s.Close(t.Context())
	})
}
