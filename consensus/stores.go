package consensus

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"
)

const (
	// logCacheEntries are kept in memory for followers that lag a little; at
	// most that many times an entry's bound, 128 MiB.
	logCacheEntries = 512
	// snapshotsRetained: the newest could be the one that cannot be read.
	snapshotsRetained = 2
	// lockTimeout is how long a second process waits for the file's lock.
	lockTimeout = time.Second
)

// Stores are Raft's stores on real files.
type Stores struct {
	Logs      raft.LogStore
	Stable    raft.StableStore
	Snapshots raft.SnapshotStore

	bolt *raftboltdb.BoltStore
}

// OpenStores opens, or makes, the stores in dir, which it makes if need be and
// keeps from other users. It fails if another process has them open. Every
// write is synced.
func OpenStores(dir string, log *slog.Logger) (*Stores, error) {
	snapshots := filepath.Join(dir, "snapshots")
	for _, d := range []string{dir, snapshots} {
		if err := private(d); err != nil {
			return nil, fmt.Errorf("data directory: %w", err)
		}
	}
	bolt, err := raftboltdb.New(raftboltdb.Options{
		Path: filepath.Join(dir, "raft.db"),
		BoltOptions: &bbolt.Options{
			Timeout: lockTimeout,
			// The free list is found again at open. Written at each commit, it
			// can outgrow the data a thousand times (etcd-io/bbolt#401).
			NoFreelistSync: true,
			FreelistType:   bbolt.FreelistMapType,
		},
	})
	if err != nil {
		return nil, fmt.Errorf("open raft.db (is another agent running on %s?): %w", dir, err)
	}
	s := &Stores{Stable: bolt, bolt: bolt}
	if s.Logs, err = raft.NewLogCache(logCacheEntries, bolt); err == nil {
		s.Snapshots, err = raft.NewFileSnapshotStoreWithLogger(dir, snapshotsRetained, newHCLog(log.With("component", "raft")))
	}
	if err == nil {
		err = synced(dir)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open stores in %s: %w", dir, err), bolt.Close())
	}
	return s, nil
}

// private makes a directory that only its owner can enter.
func private(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	return os.Chmod(dir, 0o700)
}

// synced makes the names in a directory durable: a vote in a file that is gone
// after a power cut was not cast.
func synced(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Close closes the files. Close the node first. Safe to repeat.
func (s *Stores) Close() error {
	if err := s.bolt.Close(); err != nil {
		return fmt.Errorf("close raft.db: %w", err)
	}
	return nil
}
