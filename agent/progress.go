package agent

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"

	"github.com/raftlock/raftlock/internal/mutant"
)

// ErrNoProgress: a part of the agent did not answer in time, or could not. What
// it waits for may come yet; if it does not, only a restart helps.
var ErrNoProgress = errors.New("no progress")

// progressKey is the small file by which the disk shows that it still writes.
const progressKey = "progress"

// progress is the question whether all parts of an agent go on. One is under
// way at a time: what does not answer gathers nobody.
type progress struct {
	// writing has one place: a write of who does not wait for its disk.
	writing chan struct{}

	mu    sync.Mutex // guards the rest
	asked *asked     // nil: none under way
	count uint64
}

// asked is one question under way.
type asked struct {
	done chan struct{}
	err  error // readable once done is closed

	mu sync.Mutex // guards at
	at string     // the part that is asked now
}

// Progress returns nil when every part of this agent that can hang has answered
// after the call, or after an earlier call that is still waited for: the
// ticker, which drives beats and deadlines; the router, which finds and keeps the
// link to the leader; where this agent is a Raft member, the main loop, the state
// machine, the proposer and the disk, which wrote a small file or said why not;
// where it leads, its leases. None of it needs other agents: one that is alone
// makes progress.
//
// ErrNoProgress names the part that did not answer until ctx ended, or says why
// it could not. It may be asked again; it costs two syncs of the disk each time.
// Who is no member serves without its disk: there a disk that hangs is told in
// the log, and no more.
// It answers while Run runs.
func (a *Agent) Progress(ctx context.Context) error {
	q := a.ask()
	select {
	case <-q.done:
		return q.err
	case <-ctx.Done():
		return fmt.Errorf("%w: %s: %w", ErrNoProgress, q.where(), ctx.Err())
	}
}

func (q *asked) where() string {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.at
}

// ask begins a question, unless one is under way.
func (a *Agent) ask() *asked {
	p := &a.progress
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.asked != nil {
		return p.asked
	}
	q := &asked{done: make(chan struct{}), at: "start"}
	p.asked = q
	p.count++
	value := []byte(strconv.FormatUint(p.count, 10))
	// Nobody waits for its end but whoever asked: a disk that hangs would keep
	// the agent from stopping.
	go func() {
		q.err = a.askParts(q, value)
		p.mu.Lock()
		p.asked = nil
		p.mu.Unlock()
		close(q.done)
	}()
	return q
}

func (a *Agent) askParts(q *asked, value []byte) error {
	for _, part := range []struct {
		name string
		ask  func() error
	}{
		{"ticker", a.askTicker},
		{"router", a.askRouter},
		{"consensus", a.askConsensus},
		{"leases", a.askLeases},
		{"disk", func() error { return a.askDisk(value) }},
	} {
		q.mu.Lock()
		q.at = part.name
		q.mu.Unlock()
		if err := part.ask(); err != nil {
			return fmt.Errorf("%w: %s: %w", ErrNoProgress, part.name, err)
		}
	}
	return nil
}

var errAgentEnded = errors.New("the agent has ended")

// askTicker waits until the ticker took the question and then drove deadlines.
func (a *Agent) askTicker() error {
	if mutant.On("progress-ticker") {
		return nil
	}
	return a.askLoop(a.probes)
}

// askRouter waits until the router rests between two rounds, or looks after a
// link that it has. Rounds, questions and dials have bounds: it rests soon.
func (a *Agent) askRouter() error {
	if mutant.On("progress-router") {
		return nil
	}
	return a.askLoop(a.rests)
}

func (a *Agent) askLoop(loop chan<- chan struct{}) error {
	turned := make(chan struct{})
	select {
	case loop <- turned:
	case <-a.over:
		return errAgentEnded
	}
	select {
	case <-turned:
		return nil
	case <-a.over:
		return errAgentEnded
	}
}

func (a *Agent) askConsensus() error {
	node := a.Node()
	if node == nil {
		return nil
	}
	return node.Probe(context.Background()) // ends with the node
}

func (a *Agent) askLeases() error {
	d := a.current()
	if d == nil {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return nil
}

// askDisk writes where the agent's state is. A leader whose disk hangs leads on
// as long as it has nothing to write, and followers hear its heartbeats. An
// error is an answer: it is for whoever has to write to stop for it, and a full
// disk does not keep a forwarder from its work.
//
// Nor does one that hangs: who is no member is not held up by it, and says so
// when the next question finds the former write still under way.
func (a *Agent) askDisk(value []byte) error {
	if a.Node() != nil {
		if !mutant.On("progress-disk") {
			a.write(value)
		}
		return nil
	}
	select {
	case a.progress.writing <- struct{}{}:
		go func() {
			a.write(value)
			<-a.progress.writing
		}()
	default:
		a.cfg.Log.Warn("the data directory does not answer; it is not needed to serve here, but is for a restart")
	}
	return nil
}

func (a *Agent) write(value []byte) {
	if err := a.cfg.Store.Save(progressKey, value); err != nil {
		a.cfg.Log.Warn("the data directory cannot be written to", "error", err)
	}
}
