package sim

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/hashicorp/raft"
)

// ErrNoSnapshot: it was never closed, or a newer one replaced it.
var ErrNoSnapshot = errors.New("no such snapshot")

type snapshot struct {
	meta raft.SnapshotMeta
	data []byte
}

// newer reports whether a snapshot may replace the one that is kept.
func (s *snapshot) newer(than *snapshot) bool {
	if than == nil {
		return true
	}
	a, b := s.meta, than.meta
	return a.Index > b.Index || a.Index == b.Index && a.Term >= b.Term
}

// snapshotStore is a raft.SnapshotStore of one incarnation.
type snapshotStore struct{ v *volume }

// Snapshots keeps the newest closed snapshot. A slow older one that closes
// later does not replace it, and a crash loses what is not closed.
func (d *Disk) Snapshots() raft.SnapshotStore { return &snapshotStore{d.current()} }

func (s *snapshotStore) Create(version raft.SnapshotVersion, index, term uint64, c raft.Configuration, ci uint64, _ raft.Transport) (raft.SnapshotSink, error) {
	id := fmt.Sprintf("%d-%d-%d", term, index, s.v.d.h.w.Now())
	return &sink{v: s.v, meta: raft.SnapshotMeta{
		Version: version, ID: id, Index: index, Term: term, Configuration: c, ConfigurationIndex: ci,
	}}, nil
}

func (s *snapshotStore) kept() *snapshot {
	s.v.d.h.w.mu.Lock()
	defer s.v.d.h.w.mu.Unlock()
	return s.v.snapshot
}

func (s *snapshotStore) List() ([]*raft.SnapshotMeta, error) {
	kept := s.kept()
	if kept == nil {
		return nil, nil
	}
	meta := kept.meta
	return []*raft.SnapshotMeta{&meta}, nil
}

func (s *snapshotStore) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	s.v.settle(0)
	kept := s.kept()
	if kept == nil || kept.meta.ID != id {
		return nil, nil, fmt.Errorf("open snapshot %s: %w", id, ErrNoSnapshot)
	}
	meta := kept.meta
	return &meta, io.NopCloser(bytes.NewReader(kept.data)), nil
}

// sink is one snapshot being written, by one goroutine.
type sink struct {
	v    *volume
	meta raft.SnapshotMeta
	data []byte
	done bool
}

func (k *sink) ID() string { return k.meta.ID }

func (k *sink) Write(p []byte) (int, error) {
	k.data = append(k.data, p...)
	return len(p), nil
}

func (k *sink) Cancel() error {
	k.done = true
	return nil
}

func (k *sink) Close() error {
	if k.done {
		return nil
	}
	k.done = true
	k.meta.Size = int64(len(k.data))
	s := &snapshot{meta: k.meta, data: k.data}
	return k.v.write(&write{parts: 1, apply: func(v *volume, _ int) {
		if s.newer(v.snapshot) {
			v.snapshot = s
		}
	}})
}

// KV is a store of small files, each replaced whole and durably.
type KV struct{ v *volume }

// KV is what an agent keeps beside raft: names, promises, cluster ids.
func (d *Disk) KV() *KV { return &KV{d.current()} }

// Load reads a file. Where there is none the error is fs.ErrNotExist.
func (k *KV) Load(key string) ([]byte, error) {
	k.v.settle(0)
	k.v.d.h.w.mu.Lock()
	defer k.v.d.h.w.mu.Unlock()
	value, ok := k.v.files[key]
	if !ok {
		return nil, fmt.Errorf("load %s: %w", key, fs.ErrNotExist)
	}
	return bytes.Clone(value), nil
}

// Save writes a file. With ErrIO it may be written or not; with ErrNoSpace and
// ErrDead what was there stays.
func (k *KV) Save(key string, value []byte) error {
	b := bytes.Clone(value)
	if err := k.v.write(&write{parts: 1, apply: func(v *volume, _ int) { v.files[key] = b }}); err != nil {
		return fmt.Errorf("save %s: %w", key, err)
	}
	return nil
}
