package consensus

import (
	"fmt"
	"io"
	"runtime"
	"sync"

	"github.com/hashicorp/raft"

	"github.com/raftlock/raftlock/internal/mutant"
)

// failStop makes the first failed write of any store the last one. After a
// failed write raft's memory can differ from what is on disk, and an fsync that
// failed once must not be believed when it succeeds the next time.
//
// Once raft runs, the goroutine of raft that made the failed write ends right
// there, after Fatal was called: raft would panic on some of these errors and
// carry on after others, and both are wrong. Its deferred calls run, so
// whoever waits for it is answered.
type failStop struct {
	fatal func(error)

	mu      sync.Mutex // guards the fields below
	err     error
	running bool
}

// run says that writes come from raft's goroutines from now on.
func (f *failStop) run() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.running = true
}

// failed returns the first failure.
func (f *failStop) failed() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

func (f *failStop) write(what string, do func() error) error {
	err := f.failed()
	if err == nil {
		if err = do(); err == nil {
			return nil
		}
		err = fmt.Errorf("store write failed, nothing is written any more (%s): %w", what, err)
	}
	if mutant.On("failstop") {
		return nil
	}
	return f.stop(err)
}

// stop makes err the first failure, if there was none, and does not return to
// raft.
func (f *failStop) stop(err error) error {
	f.mu.Lock()
	first, running := f.err == nil, f.running
	if first {
		f.err = err
	}
	f.mu.Unlock()
	if first {
		f.fatal(err)
	}
	if running {
		runtime.Goexit()
	}
	return err
}

// failStopLogs guards a log store.
type failStopLogs struct {
	raft.LogStore
	*failStop
}

func (s failStopLogs) StoreLog(l *raft.Log) error {
	return s.write("store log", func() error { return s.LogStore.StoreLog(l) })
}

func (s failStopLogs) StoreLogs(l []*raft.Log) error {
	return s.write("store logs", func() error { return s.LogStore.StoreLogs(l) })
}

func (s failStopLogs) DeleteRange(low, high uint64) error {
	return s.write("delete logs", func() error { return s.LogStore.DeleteRange(low, high) })
}

// IsMonotonic hands on what raft asks of a store.
func (s failStopLogs) IsMonotonic() bool {
	m, ok := s.LogStore.(raft.MonotonicLogStore)
	return ok && m.IsMonotonic()
}

// failStopStable guards a stable store: term and vote.
type failStopStable struct {
	raft.StableStore
	*failStop
}

func (s failStopStable) Set(key, val []byte) error {
	return s.write("set "+string(key), func() error { return s.StableStore.Set(key, val) })
}

func (s failStopStable) SetUint64(key []byte, val uint64) error {
	return s.write("set "+string(key), func() error { return s.StableStore.SetUint64(key, val) })
}

// failStopSnapshots guards a snapshot store. Cancelling is not a write: what is
// cancelled was not promised to anybody. A snapshot that is kept and contradicts
// the log stops the node as well (ErrLogConflicts).
type failStopSnapshots struct {
	raft.SnapshotStore
	logs raft.LogStore
	*failStop
}

func (s failStopSnapshots) Create(version raft.SnapshotVersion, index, term uint64,
	configuration raft.Configuration, configurationIndex uint64, trans raft.Transport,
) (raft.SnapshotSink, error) {
	var sink raft.SnapshotSink
	err := s.write("create snapshot", func() (err error) {
		sink, err = s.SnapshotStore.Create(version, index, term, configuration, configurationIndex, trans)
		return err
	})
	if err != nil || sink == nil {
		return nil, err
	}
	return failStopSink{SnapshotSink: sink, logs: s.logs, index: index, term: term, failStop: s.failStop}, nil
}

type failStopSink struct {
	raft.SnapshotSink
	logs        raft.LogStore
	index, term uint64
	*failStop
}

func (s failStopSink) Write(p []byte) (n int, err error) {
	err = s.write("write snapshot", func() error {
		n, err = s.SnapshotSink.Write(p)
		if err == nil && n < len(p) {
			err = io.ErrShortWrite
		}
		return err
	})
	return n, err
}

// Close keeps the snapshot first: what the log loses, it has.
func (s failStopSink) Close() error {
	err := s.write("close snapshot", s.SnapshotSink.Close)
	if err != nil {
		return err
	}
	var dropped bool
	err = s.write("cut log", func() (err error) {
		dropped, err = dropConflicting(s.logs, s.index, s.term)
		return err
	})
	if err == nil && dropped {
		err = s.stop(ErrLogConflicts)
	}
	return err
}
