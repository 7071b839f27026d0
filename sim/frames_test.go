package sim

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/raftlock/raftlock/fsm"
)

// How the faults of every story are run. The lease is short, so that what must
// end with it ends soon; longer than an election it need not be.
const (
	framesTTL = 3 * time.Second
	// A hold, wait or session that nobody knows is gone this long after the
	// world was healed: its lease, then a sweep, a confirm and a commit.
	framesLease = framesTTL + framesTTL/100 + time.Second
	// Raft frames and questions are many and alike; of their faults so many
	// are drawn for each story. RAFTLOCK_FRAMES=all takes every one; a short
	// test takes a part of all.
	framesSampled  = 100
	framesShort    = 4
	framesAttempts = 4
	framesRecords  = 5
	framesHitsMin  = 90 // of a hundred
	// Frames count for so long after a story: commits are told on, answers
	// acknowledged.
	framesTail = 100 * time.Millisecond
	// How often the whole cluster is looked at meanwhile.
	framesLook = 100 * time.Millisecond
	// A story with so many failures is not run on: they are one.
	framesFailuresMax = 3
)

// TestFrames runs every story without faults and notes its frames; then
// once more for every frame and everything that can happen to it. The number
// of runs is held to what it was when this was written.
func TestFrames(t *testing.T) {
	seed := setting(t, "RAFTLOCK_SEED", 1)
	used := processorTime(t)
	var sum framesSum
	for _, x := range frameStories {
		t.Run(x.name, func(t *testing.T) {
			r := &framesRun{story: x, seed: seed}
			r.all(t)
			sum.add(r)
			r.judge(t)
		})
	}
	used = processorTime(t) - used
	t.Logf("%d runs, %d of them missed their frame; %.0f virtual s in %.1f s of processor time",
		sum.runs, sum.missed, sum.virtual.Seconds(), used.Seconds())
	if sum.missed*100 > sum.runs*(100-framesHitsMin) {
		t.Errorf("%d of %d runs missed their frame", sum.missed, sum.runs)
	}
}

type framesSum struct {
	runs, missed int
	virtual      time.Duration
}

func (s *framesSum) add(r *framesRun) {
	s.runs += r.runs
	s.missed += r.missed
	s.virtual += r.virtual
}

// framesRun is one story and all its reruns.
type framesRun struct {
	story  frameStory
	seed   uint64
	frames int

	mu           sync.Mutex // guards the rest
	runs, missed int
	failed       int
	ended        int // sessions of applications that live
	virtual      time.Duration
	longest      time.Duration // that a call took
}

func (r *framesRun) all(t *testing.T) {
	faults := r.record(t)
	t.Run("runs", func(t *testing.T) {
		for _, f := range r.sample(faults) {
			t.Run(strings.ReplaceAll(f.String(), "/", "."), func(t *testing.T) {
				t.Parallel()
				r.rerun(t, f)
			})
		}
	})
}

func (r *framesRun) judge(t *testing.T) {
	t.Logf("%d frames, %d runs, %d missed; %d sessions ended with their agents, the longest call took %v",
		r.frames, r.runs, r.missed, r.ended, r.longest)
	if r.runs < r.story.least && !testing.Short() {
		t.Errorf("%d runs; there were %d", r.runs, r.story.least)
	}
}

// record runs the story without a fault, a few times, and takes the run with
// the most to do: which frames come by differs from run to run, and the number
// of reruns is not to depend on one that was poor.
func (r *framesRun) record(t *testing.T) []FrameFault {
	var faults []FrameFault
	t.Run("record", func(t *testing.T) {
		for n := range uint64(framesRecords) {
			synctest.Test(t, func(t *testing.T) {
				s := r.perform(t, r.seed+n, FrameFault{})
				if len(r.sample(s.recorded)) > len(r.sample(faults)) {
					faults, r.frames = s.recorded, s.frames
				}
			})
		}
	})
	return faults
}

// sample takes every fault of the frames between applications, their agents
// and the leader, and some of the others, by their names.
func (r *framesRun) sample(faults []FrameFault) []FrameFault {
	if os.Getenv("RAFTLOCK_FRAMES") == "all" {
		return faults
	}
	var out, many []FrameFault
	for _, f := range faults {
		if !r.story.sampled && streamed(f.Frame.Kind) {
			out = append(out, f)
		} else {
			many = append(many, f)
		}
	}
	slices.SortFunc(many, func(a, b FrameFault) int { return cmp.Compare(a.rank(r.seed), b.rank(r.seed)) })
	out = append(out, many[:min(len(many), r.story.draw())]...)
	if !testing.Short() {
		return out
	}
	return slices.DeleteFunc(out, func(f FrameFault) bool { return f.rank(r.seed)%framesShort != 0 })
}

// rerun does one fault, with other seeds until its frame comes by.
func (r *framesRun) rerun(t *testing.T, f FrameFault) {
	r.mu.Lock()
	enough := r.failed >= framesFailuresMax
	r.runs++
	r.mu.Unlock()
	if enough {
		return
	}
	defer func() {
		if t.Failed() {
			r.mu.Lock()
			r.failed++
			r.mu.Unlock()
		}
	}()
	for attempt := range uint64(framesAttempts) {
		hit := false
		synctest.Test(t, func(t *testing.T) {
			s := r.perform(t, f.rank(r.seed+attempt), f)
			hit = s.aim.Hit() != nil
		})
		if hit || t.Failed() {
			return
		}
	}
	r.mu.Lock()
	r.missed++
	r.mu.Unlock()
}

// perform is one run in a bubble: the story with its fault, and what must be
// true of every end.
func (r *framesRun) perform(t *testing.T, seed uint64, f FrameFault) *stage {
	w := New(t, seed)
	s := &stage{story: r.story, fault: f}
	s.aim = AimAt(w, f, s.keeps)
	w.Logf("story %s: %s", r.story.name, f)
	if r.story.prepare == nil {
		s.aim.Arm(map[string]string{"v2": "voter", "v3": "voter", "v4": "voter", "v5": "voter"})
	}
	s.c = NewCluster(w, ClusterConfig{Voters: 5, Forwarders: 2})
	defer s.c.Close()
	if r.story.prepare != nil {
		leader := s.c.WaitLeader(time.Minute)
		s.begin()
		r.story.prepare(s)
		roles := make(map[string]string)
		for _, m := range s.c.Voters {
			roles[m.Host.Name] = "voter"
		}
		roles[leader.Host.Name] = "leader"
		s.aim.Arm(roles)
	} else {
		s.begin()
	}
	defer s.cancel()
	defer s.watch()()
	r.story.tell(s)
	time.Sleep(framesTail)
	s.recorded, s.frames = s.aim.Faults(), len(s.aim.kept)
	s.end()
	ended := s.ended()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended += ended
	r.virtual += w.Now()
	r.longest = max(r.longest, s.longest)
	return s
}

// keeps are the frames that a story is made of. Heartbeats of raft carry
// nothing of it, nor do the links of agents without applications.
func (s *stage) keeps(f *Frame) bool {
	path, _, _ := strings.Cut(f.Kind, "/")
	switch path {
	case "raft":
		return !strings.HasPrefix(f.Kind, "raft/Heartbeat")
	case "ask":
		// While there is no leader everybody asks everybody for one.
		return !strings.HasPrefix(f.Kind, "ask/term") || strings.HasPrefix(f.From, "f") || strings.HasPrefix(f.To, "f")
	case "link-up":
		return s.story.everyLink || strings.HasPrefix(f.From, "f")
	case "link-down":
		return s.story.everyLink || strings.HasPrefix(f.To, "f")
	}
	return true
}

// end heals the world and looks at what the story left behind.
func (s *stage) end() {
	c := s.c
	c.W.OnFrame(nil)
	for _, m := range c.Members() {
		if !m.Host.Up() {
			m.Host.Restart()
		}
	}
	c.WaitLeader(time.Minute)
	s.lastWaits()
	c.Settled(framesLease)
	c.Checks.Now()
	s.unlockAll()
	z := c.open(c.Forwarders[1], "z", framesTTL)
	for _, name := range []string{"x", "y", "w"} {
		s.soon(z, name)
	}
	c.Wait(framesLease, "end without sessions but those of the living", func() bool { return c.sessions() == s.living() })
	c.must("the state", s.check())
	s.tokens()
	c.Checks.Now()
}

// watch looks at the whole cluster until its result is called.
func (s *stage) watch() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := s.going(func() {
		var orphans framesOrphans
		for ctx.Err() == nil {
			s.c.Checks.Now()
			s.backed()
			orphans.look(s)
			select {
			case <-time.After(framesLook):
			case <-ctx.Done():
			}
		}
	})
	return func() { cancel(); <-done }
}

// backed: what an application sees as held, the cluster has as its hold.
func (s *stage) backed() {
	var before []*Handle
	for _, h := range s.handles() {
		if h.Valid() {
			before = append(before, h)
		}
	}
	held, ok := s.holds()
	if !ok {
		return
	}
	for _, h := range before {
		if held[h.Token] != h.Name && h.Valid() {
			s.c.W.Fail("%s's handle of %s with token %d is valid, and the cluster does not have it", h.App.Name, h.Name, h.Token)
		}
	}
}

// framesOrphans are holds that no valid handle knows, with the time since when.
type framesOrphans struct {
	leader *Member
	since  map[uint64]time.Duration
}

// look: no hold exists without a handle that knows it for longer than its
// lease, of which every leadership starts a new one.
func (o *framesOrphans) look(s *stage) {
	l := s.c.Leader()
	if l != o.leader || l == nil {
		o.leader, o.since = l, make(map[uint64]time.Duration)
	}
	held, ok := s.holds()
	if !ok {
		return
	}
	known := make(map[uint64]bool)
	for _, h := range s.handles() {
		known[h.Token] = h.Valid()
	}
	for token := range o.since {
		if held[token] == "" || known[token] {
			delete(o.since, token)
		}
	}
	for token, name := range held {
		since, old := o.since[token]
		switch {
		case known[token]:
		case !old:
			o.since[token] = s.c.W.Now()
		case s.c.W.Now()-since > framesLease:
			s.c.W.Fail("%s is held with token %d by nobody who knows, since %v", name, token, since)
			delete(o.since, token)
		}
	}
}

// holds are all holds of the leader's state: the locks' names by token.
func (s *stage) holds() (held map[uint64]string, ok bool) {
	l := s.c.Leader()
	if l == nil {
		return nil, false
	}
	held = make(map[uint64]string)
	ok = l.Inspect(func(st *fsm.State) {
		page, _ := st.View().List(fsm.Filter{Limit: 100})
		for _, i := range page {
			if t := i.Holder.GetToken(); t != 0 {
				held[t] = i.Lock
			}
		}
	})
	return held, ok
}

// handles are all that any application ever got.
func (s *stage) handles() (out []*Handle) {
	for _, a := range s.c.Apps() {
		a.mu.Lock()
		out = append(out, a.handles...)
		a.mu.Unlock()
	}
	return out
}

// tokens: no two grants had one token.
func (s *stage) tokens() {
	seen := make(map[uint64]*Handle)
	for _, h := range s.handles() {
		if o := seen[h.Token]; o != nil {
			s.c.W.Fail("token %d was granted to %s for %s and to %s for %s", h.Token, o.App.Name, o.Name, h.App.Name, h.Name)
		}
		seen[h.Token] = h
	}
}

// check is I1 to I8 as far as one state shows them, on every replica.
func (s *stage) check() error {
	for _, m := range s.c.Voters {
		var err error
		m.Inspect(func(st *fsm.State) { err = st.Check() })
		if err != nil {
			return fmt.Errorf("%s: %w", m.Host.Name, err)
		}
	}
	return nil
}
