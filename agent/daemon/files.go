package daemon

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// ErrInUse: another agent runs on the data directory.
var ErrInUse = errors.New("the data directory is in use")

// dataDir is an agent's directory: small files of its own, and Raft's stores
// beside them. One process has it at a time.
type dataDir struct {
	path string
	lock *os.File
}

// openDataDir makes the directory if need be, keeps others out of it, and locks
// it until close.
func openDataDir(path string) (*dataDir, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("data directory (--data-dir): %w", err)
	}
	if err := os.Chmod(path, 0o700); err != nil {
		return nil, fmt.Errorf("data directory (--data-dir) must be this user's own: %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(path, "LOCK"), os.O_CREATE|os.O_RDWR|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("data directory (--data-dir): %w", err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = lock.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("%w: another agent runs on %s; stop it, or give this one another --data-dir", ErrInUse, path)
		}
		return nil, fmt.Errorf("lock the data directory %s: %w", path, err)
	}
	return &dataDir{path: path, lock: lock}, nil
}

func (d *dataDir) close() error { return d.lock.Close() }

// raft is where Raft's stores live.
func (d *dataDir) raft() string { return filepath.Join(d.path, "raft") }

// Load implements bootstrap.Store.
func (d *dataDir) Load(key string) ([]byte, error) {
	data, err := os.ReadFile(d.file(key))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil && data == nil {
		data = []byte{} // saved empty is not "never saved"
	}
	return data, err
}

// Save implements bootstrap.Store: a new file, synced, renamed over the old
// one, and the rename synced.
func (d *dataDir) Save(key string, value []byte) (err error) {
	f, err := os.CreateTemp(d.path, "."+key+"-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	_, err = f.Write(value)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), d.file(key)); err != nil {
		return err
	}
	dir, err := os.Open(d.path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

func (d *dataDir) file(key string) string { return filepath.Join(d.path, key) }
