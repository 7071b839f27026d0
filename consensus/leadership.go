package consensus

import (
	"context"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/raftlock/raftlock/fsm/command"
)

// vitalFactor is how many times QueueMax the vital proposals have for
// themselves.
const vitalFactor = 10

// Leadership is one leadership of this node whose Establish was applied. It is
// named by its term. All methods are safe for concurrent use, and after its end
// they say so.
type Leadership struct {
	node *Node
	term uint64

	// over is cancelled when the leadership ends; what asks on its behalf ends
	// with it.
	over   context.Context
	finish context.CancelFunc

	confirms confirmer

	wake   chan struct{} // the queue has what the proposer waits for
	gather gather        // the proposer's

	mu    sync.Mutex // guards the fields below
	ended bool
	want  int // the proposer is woken when so many are queued
	queue []queued
	waits load // ordinary proposals in the queue
	vital load
}

type queued struct {
	Proposal
	bytes int
	at    time.Time // when it was queued, if somebody traces or measures it
}

// load counts one class of proposals in the queue.
type load struct{ count, bytes int }

func (l *load) add(q queued, sign int) {
	l.count += sign
	l.bytes += sign * q.bytes
}

func newLeadership(n *Node, term uint64) *Leadership {
	l := &Leadership{node: n, term: term, wake: make(chan struct{}, 1)}
	l.over, l.finish = context.WithCancel(context.Background()) // ended by lead
	return l
}

// Term names the leadership.
func (l *Leadership) Term() uint64 { return l.term }

// Node is the node that leads.
func (l *Leadership) Node() *Node { return l.node }

// Done is closed as soon as this node knows that the leadership is over;
// Leader.Deposed follows.
func (l *Leadership) Done() <-chan struct{} { return l.over.Done() }

// Propose queues p for the next round. It never blocks. After an error Done is
// not called and nothing was proposed: ErrNotLeading, ErrQueueFull, ErrTooLarge.
func (l *Leadership) Propose(p Proposal) error {
	q := queued{Proposal: p, bytes: commandBytes(p.Command)}
	if q.traced() || l.node.cfg.Metrics != nil {
		q.at = time.Now() // as spans are stamped
	}
	if q.bytes > entryBytesMax {
		return ErrTooLarge
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return ErrNotLeading
	}
	class, countMax := l.class(p.Vital)
	if class.count >= countMax || class.bytes+q.bytes > l.node.cfg.QueueBytesMax {
		return ErrQueueFull
	}
	class.add(q, 1)
	l.queue = append(l.queue, q)
	if l.enough() {
		select {
		case l.wake <- struct{}{}:
		default:
		}
	}
	return nil
}

// enough reports that the proposer need not wait for more. The caller holds mu.
func (l *Leadership) enough() bool {
	return len(l.queue) >= l.want || l.waits.bytes+l.vital.bytes >= entryBytesMax
}

// expect lets Propose wake the proposer only when n are queued, or as much as
// an entry takes, and returns how many are; n if it is as much already.
func (l *Leadership) expect(n int) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.want = n
	if l.enough() {
		return max(n, len(l.queue))
	}
	return len(l.queue)
}

func (l *Leadership) class(vital bool) (*load, int) {
	if vital {
		return &l.vital, vitalFactor * l.node.cfg.QueueMax
	}
	return &l.waits, l.node.cfg.QueueMax
}

// commandBytes is what a command takes in an entry at most: itself, the field's
// tag and its length.
func commandBytes(c *command.Command) int { return proto.Size(c) + 6 }

// take removes the next round's proposals from the queue: in order, up to an
// entry's bounds.
func (l *Leadership) take() []queued {
	l.mu.Lock()
	defer l.mu.Unlock()
	n, bytes := 0, 0
	for n < len(l.queue) && n < entryCommandsMax && bytes+l.queue[n].bytes <= entryBytesMax {
		bytes += l.queue[n].bytes
		n++
	}
	batch := l.queue[:n:n]
	l.queue = l.queue[n:]
	if len(l.queue) == 0 {
		l.queue = nil
	}
	for _, q := range batch {
		class, _ := l.class(q.Vital)
		class.add(q, -1)
	}
	return batch
}

// end refuses further proposals and returns those that never had a round.
func (l *Leadership) end() []queued {
	l.finish()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = true
	rest := l.queue
	l.queue = nil
	return rest
}
