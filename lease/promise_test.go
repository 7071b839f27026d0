package lease

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// The promise of design section 1.3 for sessions: with clock rates within 1% of
// true on both hosts, and whatever the network does, V in true time is before D
// in true time. One world has a leader with a table, one agent, sessions, and a
// link that delays, and breaks.
type world struct {
	r *rand.Rand
	// true is the true time; each host reads rate x true + offset.
	now            time.Duration
	leader, holder clock
	table          *Table
	queue          []event
	order          int
	// The agent's side.
	link      int
	number    int
	beats     map[int]sentBeat
	sessions  map[ID]*held
	latest    [2]time.Duration
	confirmed int
}

type clock struct {
	rate   float64
	offset time.Duration
}

func (c clock) read(now time.Duration) time.Duration {
	return c.offset + time.Duration(c.rate*float64(now))
}

// trueTime is when the clock reads d.
func (c clock) trueTime(d time.Duration) time.Duration {
	return time.Duration(float64(d-c.offset) / c.rate)
}

// held is what the agent believes of a session: confirmed since which beat, its
// TTL, and V.
type held struct {
	id         ID
	attachment uint64
	ttl        time.Duration
	// logged is the TTL in the state machine, which a resume brings.
	logged    time.Duration
	v         time.Duration
	confirmed bool
	since     int
}

type sentBeat struct {
	at     time.Duration
	except []ID
}

// event is a frame on its way.
type event struct {
	at    time.Duration
	order int
	link  int
	do    func()
}

// send delivers a frame after those sent before in its direction.
func (w *world) send(way int, do func()) {
	delay := time.Duration(0)
	if w.r.IntN(3) > 0 {
		delay = time.Duration(w.r.ExpFloat64() * float64(300*time.Millisecond))
	}
	w.latest[way] = max(w.latest[way], w.now+delay)
	w.order++
	w.queue = append(w.queue, event{w.latest[way], w.order, w.link, do})
}

const (
	up   = 0
	down = 1
)

// run delivers what is due until the true time given, and checks the promise at
// every change.
func (w *world) run(until time.Duration) error {
	for {
		slices.SortFunc(w.queue, func(a, b event) int {
			if a.at != b.at {
				return int(a.at - b.at)
			}
			return a.order - b.order
		})
		if len(w.queue) == 0 || w.queue[0].at > until {
			w.now = until
			return w.check()
		}
		e := w.queue[0]
		w.queue = w.queue[1:]
		w.now = e.at
		if e.link != w.link {
			continue
		}
		e.do()
		if err := w.check(); err != nil {
			return err
		}
	}
}

func (w *world) check() error {
	ending := map[ID]bool{}
	for _, e := range w.table.Expired(w.leader.read(w.now), 100) {
		// Each would be ended from now on: no V may be ahead.
		ending[e.ID] = true
	}
	for id, s := range w.sessions {
		d, ok := w.table.Deadline(id)
		if !ok {
			continue
		}
		v, dTrue := w.holder.trueTime(s.v), w.leader.trueTime(d)
		if v > dTrue {
			return fmt.Errorf("V of %x comes %v after D", id[:1], v-dTrue)
		}
		if ending[id] && v > w.now {
			return fmt.Errorf("%x expired %v before its V", id[:1], v-w.now)
		}
	}
	return nil
}

func (w *world) beat() {
	w.number++
	number, sent := w.number, sentBeat{at: w.holder.read(w.now)}
	for id := range w.sessions {
		if w.r.IntN(5) == 0 {
			sent.except = append(sent.except, id)
		}
	}
	w.beats[number] = sent
	w.send(up, func() {
		w.table.Beat(1, w.leader.read(w.now), sent.except)
		w.send(down, func() { w.answered(number) })
	})
}

// answered moves V by the rule of design section 5.
func (w *world) answered(number int) {
	b := w.beats[number]
	for id, s := range w.sessions {
		if s.confirmed && s.since < number && !slices.Contains(b.except, id) {
			s.v = max(s.v, HolderDeadline(b.at, s.ttl))
		}
	}
}

// open opens or resumes, and confirms by its answer.
func (w *world) open(id ID, ttl time.Duration) {
	s := w.sessions[id]
	if s == nil {
		s = &held{id: id, ttl: ttl, logged: ttl}
		w.sessions[id] = s
	}
	s.confirmed = false
	s.attachment++
	attachment, sent := s.attachment, w.holder.read(w.now)
	w.send(up, func() {
		w.table.Open(id, attachment, 1, s.logged, w.leader.read(w.now))
		w.confirm(s, attachment, func() { s.v = max(s.v, HolderDeadline(sent, s.ttl)) })
	})
}

// confirm is the answer of an open or a reconcile page.
func (w *world) confirm(s *held, attachment uint64, and func()) {
	if !w.table.Confirm(s.id, attachment, 1) {
		return
	}
	w.send(down, func() {
		if s.attachment == attachment {
			s.confirmed, s.since = true, w.number
			w.confirmed++
			and()
		}
	})
}

func (w *world) changeTTL(s *held, ttl time.Duration) {
	was, sent := s.ttl, w.holder.read(w.now)
	if ttl < was {
		// V before the sending; from here on it is reckoned with the smaller.
		s.v, s.ttl = min(s.v, s.v-(HolderDeadline(0, was)-HolderDeadline(0, ttl))), ttl
	}
	w.send(up, func() {
		s.logged = ttl
		if !w.table.ChangeTTL(s.id, ttl, w.leader.read(w.now)) {
			return
		}
		w.send(down, func() {
			if ttl > was {
				// For beats sent after this answer; older ones are forgotten.
				s.ttl, s.since = ttl, w.number
			}
			s.v = max(s.v, HolderDeadline(sent, ttl))
		})
	})
}

// breakLink loses all frames on their way.
func (w *world) breakLink() {
	w.link++
	w.latest = [2]time.Duration{}
	w.table.Unlink(1)
	for _, s := range w.sessions {
		s.confirmed = false
		w.send(up, func() { w.confirm(s, s.attachment, func() {}) })
	}
}

func TestPromiseUnderClockRates(t *testing.T) {
	rates := []float64{0.99, 1.00, 1.01}
	confirmed, worlds := 0, 400
	if testing.Short() {
		worlds = 60
	}
	for _, leader := range rates {
		for _, holder := range rates {
			for seed := range worlds {
				n, err := inWorld(leader, holder, uint64(seed))
				if err != nil {
					t.Fatalf("leader at %v, holder at %v, seed %d: %v", leader, holder, seed, err)
				}
				confirmed += n
			}
		}
	}
	if confirmed < worlds*9*10 {
		t.Fatalf("only %d confirmations: the test proves nothing", confirmed)
	}
}

func inWorld(leader, holder float64, seed uint64) (int, error) {
	w := &world{r: rand.New(rand.NewPCG(seed, 7)), leader: clock{leader, 5 * time.Hour}, holder: clock{holder, 9 * time.Hour},
		table: New(), beats: map[int]sentBeat{}, sessions: map[ID]*held{}}
	// Long TTLs make the margin large against a rounded clock reading.
	ttl := func() time.Duration { return time.Duration(1+w.r.IntN(20)) * time.Second }
	for i := range 4 {
		w.open(name(i), ttl())
	}
	for range 120 {
		s := w.sessions[name(w.r.IntN(4))]
		switch w.r.IntN(12) {
		case 0:
			w.open(s.id, s.ttl)
		case 1:
			// One change at a time, as the agent does.
			if len(w.queue) == 0 {
				w.changeTTL(s, ttl())
			}
		case 2:
			w.breakLink()
		default:
			w.beat()
		}
		if err := w.run(w.now + time.Duration(w.r.IntN(1500))*time.Millisecond); err != nil {
			return 0, err
		}
	}
	return w.confirmed, w.table.Check()
}
