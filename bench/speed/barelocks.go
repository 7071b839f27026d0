package main

import (
	"encoding/binary"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// bareOp is what a bare entry does.
type bareOp byte

const (
	opAcquire bareOp = iota + 1
	opRelease
)

// bareBytes is an entry's size, about that of an agent's entry with one command.
const bareBytes = 96

const lockShared = 1 << 32

// lockOf is a worker's own lock.
func lockOf(worker int) uint64 { return uint64(worker) }

func bareCommand(op bareOp, lock, worker uint64) []byte {
	b := make([]byte, bareBytes)
	b[0] = byte(op)
	binary.BigEndian.PutUint64(b[1:], lock)
	binary.BigEndian.PutUint64(b[9:], worker)
	return b
}

// bareLocks is the least state machine that knows holders and queues.
type bareLocks struct {
	mu    sync.Mutex // guards the rest
	locks map[uint64]*bareLock
	// grants tell waiters of this process; nil where there are none.
	grants []chan struct{}
}

type bareLock struct {
	holder uint64
	queue  []uint64
}

func newBareLocks() *bareLocks { return &bareLocks{locks: make(map[uint64]*bareLock)} }

// watch makes a channel for each worker, with a place for its one grant.
func (l *bareLocks) watch(workers int) []chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.grants = make([]chan struct{}, workers)
	for i := range l.grants {
		l.grants[i] = make(chan struct{}, 1)
	}
	return l.grants
}

func (l *bareLocks) holder(lock uint64) (uint64, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if x := l.locks[lock]; x != nil {
		return x.holder, true
	}
	return 0, false
}

// Apply answers an acquire with whether it was granted at once.
func (l *bareLocks) Apply(entry *raft.Log) any {
	l.mu.Lock()
	defer l.mu.Unlock()
	op, lock := bareOp(entry.Data[0]), binary.BigEndian.Uint64(entry.Data[1:])
	worker := binary.BigEndian.Uint64(entry.Data[9:])
	x := l.locks[lock]
	switch {
	case op == opRelease:
		l.release(lock, x)
	case x != nil:
		x.queue = append(x.queue, worker)
		return false
	default:
		l.locks[lock] = &bareLock{holder: worker}
	}
	return true
}

func (l *bareLocks) release(lock uint64, x *bareLock) {
	if len(x.queue) == 0 {
		delete(l.locks, lock)
		return
	}
	x.holder, x.queue = x.queue[0], x.queue[1:]
	if x.holder < uint64(len(l.grants)) {
		l.grants[x.holder] <- struct{}{}
	}
}

// Snapshot keeps nothing: no node of a run is ever started twice, and the log
// is kept behind a snapshot for whoever lags.
func (l *bareLocks) Snapshot() (raft.FSMSnapshot, error) { return nothing{}, nil }

// Restore is part of raft.FSM.
func (l *bareLocks) Restore(from io.ReadCloser) error { return from.Close() }

type nothing struct{}

func (nothing) Persist(sink raft.SnapshotSink) error { return sink.Close() }
func (nothing) Release()                             {}

// baton times hand-offs: one worker at a time has it.
type baton struct{ since atomic.Int64 }

var batonEpoch = time.Now()

// given notes that the holder begins to give the lock up.
func (b *baton) given() { b.since.Store(int64(time.Since(batonEpoch))) }

// taken tells how long that is ago.
func (b *baton) taken() time.Duration { return time.Since(batonEpoch) - time.Duration(b.since.Load()) }
