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
// cancelled was not promised to anybody.
type failStopSnapshots struct {
	raft.SnapshotStore
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
	return failStopSink{sink, s.failStop}, nil
}

type failStopSink struct {
	raft.SnapshotSink
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

func (s failStopSink) Close() error {
	return s.write("close snapshot", s.SnapshotSink.Close)
}
