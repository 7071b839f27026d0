package consensus

import (
	"io"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/raft"

	"github.com/raftlock/raftlock/fsm"
)

// machine is the state machine as raft sees it.
type machine struct {
	observe func(s *fsm.State, o fsm.Outcome)
	steps   *atomic.Pointer[steps]

	mu    sync.Mutex // guards state, also while it applies
	state *fsm.State
}

func newMachine(observe func(*fsm.State, fsm.Outcome), steps *atomic.Pointer[steps]) *machine {
	return &machine{observe: observe, steps: steps, state: fsm.New()}
}

// Apply answers the future of the proposer with the fsm.Outcome.
func (m *machine) Apply(l *raft.Log) any {
	defer m.steps.Load().applies(l)()
	m.mu.Lock()
	defer m.mu.Unlock()
	out := m.state.Apply(l.Index, l.Term, l.Data)
	if m.observe != nil {
		m.observe(m.state, out)
	}
	return out
}

// Snapshot captures a view; applies go on while it is written.
func (m *machine) Snapshot() (raft.FSMSnapshot, error) {
	return snapshot{m.view()}, nil
}

func (m *machine) Restore(from io.ReadCloser) error {
	defer from.Close()
	s, err := fsm.Restore(from)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.state = s
	return nil
}

func (m *machine) view() *fsm.View {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.state.View()
}

func (m *machine) inspect(f func(*fsm.State)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f(m.state)
}

type snapshot struct{ view *fsm.View }

// Persist must not cancel what it finished: a sink that is cancelled after its
// close loses the snapshot in some stores.
func (s snapshot) Persist(sink raft.SnapshotSink) error {
	if err := s.view.Snapshot(sink); err != nil {
		_ = sink.Cancel()
		return err
	}
	return sink.Close()
}

func (snapshot) Release() {}
