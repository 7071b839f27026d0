package session

import (
	"errors"
	"sync"
	"time"

	api "github.com/raftlock/raftlock/api/raftlock/v1"
	"github.com/raftlock/raftlock/fsm/command"
)

// streamQueueMax bounds what waits to be written to one application. One that
// never reads loses its stream, and with it the right to be vouched for.
const streamQueueMax = 8192

// firstTimeout is how long a stream may be there without a first request: until
// then nothing but the connections bounds how many there are.
const firstTimeout = 5 * time.Second

// Errors that end a stream.
var (
	// ErrFirst: the first request of a stream was no open, resume or join.
	ErrFirst = errors.New("the first request must be open, resume or join")
	// ErrClosed: the agent is stopping. The session lives on.
	ErrClosed = errors.New("the agent is stopping")
)

// Stream is one application's session stream. Serve receives on one goroutine
// and sends on another. After an error it is dead.
type Stream interface {
	Send(*api.SessionResponse) error
	Recv() (*api.SessionRequest, error)
	// Close makes a blocked Recv return. Safe to repeat.
	Close()
}

// Peer is the process at the far end of a stream, as the kernel sees it. The
// Host calls its methods from any goroutine; all but Exited's channel must be
// quick.
type Peer interface {
	// Process is what goes into the log about it, but for its id, which the
	// Host makes; nil where nothing is known.
	Process() *command.Process
	// Identity bounds sessions by whose they are, such as "uid:1000".
	Identity() string
	// Same reports that both are surely one process. It is not called of one
	// that was released.
	Same(Peer) bool
	// Exited is closed when the process is gone; nil if that cannot be seen.
	// It is the same channel each time.
	Exited() <-chan struct{}
	// Release tells that the Host needs the peer no more: it is called exactly
	// once for each peer handed to Serve, perhaps long after that returned.
	Release()
}

// stream is a Stream with a queue, so that nothing here blocks on an
// application.
type stream struct {
	Stream
	mu       sync.Mutex // guards the rest
	queue    []*api.SessionResponse
	finished bool // nothing more is queued; close when the queue is empty
	dead     bool
	ready    chan struct{} // capacity 1
}

func newStream(s Stream) *stream { return &stream{Stream: s, ready: make(chan struct{}, 1)} }

// send queues one response. Past the bound the stream breaks.
func (s *stream) send(r *api.SessionResponse) {
	s.mu.Lock()
	over := len(s.queue) >= streamQueueMax
	if !s.finished && !s.dead && !over {
		s.queue = append(s.queue, r)
	}
	s.mu.Unlock()
	if over {
		s.abort()
	}
	s.wake()
}

// finish closes the stream when everything queued was written.
func (s *stream) finish() {
	s.mu.Lock()
	s.finished = true
	s.mu.Unlock()
	s.wake()
}

// abort closes the stream at once.
func (s *stream) abort() {
	s.mu.Lock()
	s.dead = true
	s.mu.Unlock()
	s.wake()
	s.Close()
}

func (s *stream) wake() {
	select {
	case s.ready <- struct{}{}:
	default:
	}
}

// write sends what is queued until the stream is finished or dead.
func (s *stream) write() {
	defer s.Close()
	for range s.ready {
		for {
			s.mu.Lock()
			batch, finished, dead := s.queue, s.finished, s.dead
			s.queue = nil
			s.mu.Unlock()
			if dead {
				return
			}
			for _, r := range batch {
				if s.Send(r) != nil {
					return
				}
			}
			if len(batch) == 0 {
				if finished {
					return
				}
				break
			}
		}
	}
}

// tell sends an update of an acquire's standing.
func (s *session) tell(st *api.Standing) {
	if s.stream != nil {
		s.stream.send(&api.SessionResponse{Response: &api.SessionResponse_Update{Update: &api.Update{Standing: st}}})
	}
}

// answer sends the answer to one sequence.
func (s *session) answer(a *api.Answer) {
	if s.stream != nil {
		s.stream.send(&api.SessionResponse{Response: &api.SessionResponse_Answer{Answer: a}})
	}
}
