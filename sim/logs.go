package sim

import (
	"bytes"

	"github.com/hashicorp/raft"
)

// logs is a raft log: what raft.LogStore keeps.
type logs struct {
	entries   map[uint64]raft.Log
	low, high uint64
}

func newLogs() logs { return logs{entries: map[uint64]raft.Log{}} }

func (l *logs) clone() logs {
	c := logs{entries: make(map[uint64]raft.Log, len(l.entries)), low: l.low, high: l.high}
	for i, e := range l.entries {
		c.entries[i] = e
	}
	return c
}

func (l *logs) put(entries []raft.Log) {
	for _, e := range entries {
		l.entries[e.Index] = e
		if l.low == 0 || e.Index < l.low {
			l.low = e.Index
		}
		l.high = max(l.high, e.Index)
	}
}

func (l *logs) remove(low, high uint64) {
	for i := max(low, l.low); i <= min(high, l.high); i++ {
		delete(l.entries, i)
	}
	if low <= l.low {
		l.low = high + 1
	}
	if high >= l.high {
		l.high = low - 1
	}
	if l.low > l.high {
		l.low, l.high = 0, 0
	}
}

// logStore is a raft.LogStore of one incarnation.
type logStore struct{ v *volume }

// Logs is the raft log.
func (d *Disk) Logs() raft.LogStore { return &logStore{d.current()} }

func (s *logStore) read(f func(l *logs)) {
	s.v.d.h.w.mu.Lock()
	defer s.v.d.h.w.mu.Unlock()
	f(&s.v.logs)
}

func (s *logStore) FirstIndex() (index uint64, err error) {
	s.read(func(l *logs) { index = l.low })
	return index, nil
}

func (s *logStore) LastIndex() (index uint64, err error) {
	s.read(func(l *logs) { index = l.high })
	return index, nil
}

func (s *logStore) GetLog(index uint64, entry *raft.Log) error {
	found := false
	s.read(func(l *logs) {
		if e, ok := l.entries[index]; ok {
			*entry, found = e, true
		}
	})
	if !found {
		return raft.ErrLogNotFound
	}
	return nil
}

func (s *logStore) StoreLog(entry *raft.Log) error { return s.StoreLogs([]*raft.Log{entry}) }

func (s *logStore) StoreLogs(entries []*raft.Log) error {
	copies := make([]raft.Log, len(entries))
	for i, e := range entries {
		copies[i] = *e
	}
	return s.v.write(&write{parts: len(copies), apply: func(v *volume, n int) { v.logs.put(copies[:n]) }})
}

func (s *logStore) DeleteRange(low, high uint64) error {
	return s.v.write(&write{parts: 1, apply: func(v *volume, _ int) { v.logs.remove(low, high) }})
}

// stableStore is a raft.StableStore of one incarnation.
type stableStore struct{ v *volume }

// Stable is raft's store of its term and vote. Writes of a dead incarnation
// report success and reach nothing but the ghost's own view: an error would
// make raft panic.
func (d *Disk) Stable() raft.StableStore { return &stableStore{d.current()} }

func (s *stableStore) Set(key, value []byte) error {
	k, b := string(key), bytes.Clone(value)
	return s.write(&write{parts: 1, apply: func(v *volume, _ int) { v.stable[k] = b }})
}

func (s *stableStore) SetUint64(key []byte, value uint64) error {
	k := string(key)
	return s.write(&write{parts: 1, apply: func(v *volume, _ int) { v.numbers[k] = value }})
}

func (s *stableStore) write(w *write) error {
	err := s.v.write(w)
	if err == nil {
		return nil
	}
	d, world := s.v.d, s.v.d.h.w
	world.mu.Lock()
	dead, crash := s.v.inc.down, d.stableCrash
	world.mu.Unlock()
	if !dead && !crash {
		return err
	}
	if !dead {
		world.Logf("%s: raft would panic: stable store: %v", d.h.Name, err)
		d.h.Crash()
		d.h.RestartAfter(world.RestartDelay)
	}
	world.mu.Lock()
	defer world.mu.Unlock()
	w.apply(s.v, w.parts)
	return nil
}

// Get answers an empty value where there is none, as raft expects.
func (s *stableStore) Get(key []byte) ([]byte, error) {
	s.v.d.h.w.mu.Lock()
	defer s.v.d.h.w.mu.Unlock()
	return bytes.Clone(s.v.stable[string(key)]), nil
}

func (s *stableStore) GetUint64(key []byte) (uint64, error) {
	s.v.d.h.w.mu.Lock()
	defer s.v.d.h.w.mu.Unlock()
	return s.v.numbers[string(key)], nil
}
