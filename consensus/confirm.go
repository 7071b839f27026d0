package consensus

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/raftlock/raftlock/internal/mutant"
)

// askPause is the wait before a voter that did not say yes is asked again
// within a round.
const askPause = 50 * time.Millisecond

// confirmer gathers those who ask while a round is under way into the next one.
type confirmer struct {
	mu      sync.Mutex // guards the fields below
	next    *confirmRound
	running bool
	// lines has one place for each server ever asked: whoever asks holds it, so
	// that a voter whose connection hangs has one question outstanding, however
	// many rounds pass.
	lines map[ServerID]chan struct{}
	// before is for the mutant that counts answers to earlier questions.
	before map[ServerID]bool
}

type confirmRound struct {
	done chan struct{}
	err  error // readable once done is closed
}

// Confirm proves that this leadership existed at some time after the call: no
// other leader can have been elected before that. It says nothing of now.
//
// Errors: ErrNotLeading (it is over), ErrNoQuorum (too few voters said yes in
// ConfirmTimeout), or ctx's. Safe to repeat.
func (l *Leadership) Confirm(ctx context.Context) error {
	if mutant.On("confirm-skip") {
		return nil
	}
	r := l.join()
	if r == nil {
		return ErrNotLeading
	}
	select {
	case <-r.done:
		return r.err
	case <-ctx.Done():
		return ctx.Err()
	case <-l.over.Done():
		return ErrNotLeading
	}
}

// join returns a round that has not begun: each question of it is sent after
// the caller arrived.
func (l *Leadership) join() *confirmRound {
	c := &l.confirms
	c.mu.Lock()
	defer c.mu.Unlock()
	if l.over.Err() != nil {
		return nil
	}
	if !c.running {
		if !l.node.spawn(l.confirmRounds) {
			return nil
		}
		c.running = true
	}
	if c.next == nil {
		c.next = &confirmRound{done: make(chan struct{})}
	}
	return c.next
}

// confirmRounds makes rounds while somebody waits for one.
func (l *Leadership) confirmRounds() {
	c := &l.confirms
	for {
		c.mu.Lock()
		r := c.next
		c.next = nil
		if r == nil {
			c.running = false
			c.mu.Unlock()
			return
		}
		c.mu.Unlock()
		r.err = l.prove()
		close(r.done)
	}
}

func (l *Leadership) prove() error {
	ctx, cancel := context.WithTimeout(l.over, l.node.cfg.ConfirmTimeout)
	defer cancel()
	for {
		servers, err := l.node.Servers()
		if err != nil {
			return err
		}
		if err := l.ask(ctx, servers); err != nil {
			return err
		}
		if mutant.On("confirm-self-first") {
			return nil
		}
		// The order matters. Only after the answers may this server count
		// itself, as it is then: a leader by state and term, and a voter.
		now, err := l.node.Servers()
		if err != nil {
			return err
		}
		if !slices.Equal(servers, now) {
			continue
		}
		if l.node.raft.State() != raft.Leader {
			return ErrNotLeading
		}
		if l.node.raft.CurrentTerm() != l.term || l.node.stores.failed() != nil {
			return ErrNotLeading
		}
		return nil
	}
}

// ask returns nil when as many voters beside this server said yes as make a
// majority, together with this server if that is a voter. prove says whether it
// may be counted.
func (l *Leadership) ask(ctx context.Context, servers []Server) error {
	need, others := l.electorate(servers)
	// Whoever waits in here for its voter's line is let go when the round ends.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	yes := make(chan ServerID, len(others))
	for _, s := range others {
		if !l.node.spawn(func() { l.question(ctx, s, yes) }) {
			return ErrNotLeading
		}
	}
	said := make(map[ServerID]bool, len(others))
	if mutant.On("confirm-early") {
		said = l.earlier(said)
	}
	for len(said) < need {
		select {
		case id := <-yes:
			said[id] = true
		case <-ctx.Done():
			if l.over.Err() != nil {
				return ErrNotLeading
			}
			return ErrNoQuorum
		}
	}
	if ctx.Err() != nil { // a list that changes all the time must not go on for ever
		return ErrNoQuorum
	}
	if mutant.On("confirm-early") {
		l.remember(said)
	}
	return nil
}

// electorate returns whom to ask, and how many of them must say yes.
func (l *Leadership) electorate(servers []Server) (need int, others []Server) {
	voters, self := 0, 0
	for _, s := range servers {
		switch {
		case s.Voter && s.ID == l.node.cfg.ServerID:
			voters, self = voters+1, 1
		case s.Voter:
			voters++
			others = append(others, s)
		case mutant.On("confirm-nonvoters") && s.ID != l.node.cfg.ServerID:
			others = append(others, s)
		}
	}
	if voters == 0 {
		return 1, nil // nobody can say yes
	}
	return voters/2 + 1 - self, others
}

// question asks one voter until it says yes or the round is over.
func (l *Leadership) question(ctx context.Context, s Server, yes chan<- ServerID) {
	line := l.line(s.ID)
	for {
		select {
		case line <- struct{}{}:
		case <-ctx.Done():
			return
		}
		if ctx.Err() != nil { // select may choose either
			<-line
			return
		}
		term, err := l.node.cfg.Asker.AskTerm(ctx, s.ID, s.Address)
		<-line
		if err == nil && term == l.term {
			yes <- s.ID
			return
		}
		t := time.NewTimer(askPause)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return
		}
	}
}

func (l *Leadership) line(id ServerID) chan struct{} {
	c := &l.confirms
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lines == nil {
		c.lines = make(map[ServerID]chan struct{})
	}
	if c.lines[id] == nil {
		c.lines[id] = make(chan struct{}, 1)
	}
	return c.lines[id]
}

func (l *Leadership) earlier(said map[ServerID]bool) map[ServerID]bool {
	for id := range l.confirms.before {
		said[id] = true
	}
	return said
}

func (l *Leadership) remember(said map[ServerID]bool) { l.confirms.before = said }
