package guard

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Open returns a guard that remembers in the file at path, which it makes if
// there is none (0600; the directory must be there). It is this process's alone
// until Close, or until the process exits. A symbolic link is followed. Errors:
// ErrInUse, ErrCorrupt, the file system's; each names the path.
func Open(path string, opts ...Option) (*Guard, error) {
	real, err := followed(path)
	if err != nil {
		return nil, fmt.Errorf("open guard %s: %w", path, err)
	}
	d, err := openDir(real)
	if err != nil {
		return nil, fmt.Errorf("open guard %s: %w", path, err)
	}
	g, err := openOn(d, filepath.Base(real), randomSalt, logBytesMin, opts...)
	if err != nil {
		_ = d.close()
		return nil, fmt.Errorf("open guard %s: %w", path, err)
	}
	return g, nil
}

// followed is path without links, so that two names of one file take one lock,
// and a new log takes the file's place and not the link's.
func followed(path string) (string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	real, err := filepath.EvalSymlinks(path)
	if !errors.Is(err, os.ErrNotExist) {
		return real, err
	}
	if _, err := os.Lstat(path); err == nil {
		return "", fmt.Errorf("a symbolic link to nothing: %w", os.ErrNotExist)
	}
	dir, err := filepath.EvalSymlinks(filepath.Dir(path))
	return filepath.Join(dir, filepath.Base(path)), err
}

func openOn(d disk, name string, salt func() [8]byte, renewMin int, opts ...Option) (*Guard, error) {
	log, c, err := openLog(d, name, salt, renewMin)
	if err != nil {
		return nil, err
	}
	g := New(opts...)
	g.log, g.batch, g.highest = log, 1, c.highest
	return g, nil
}

// osDisk is a directory of the operating system's.
type osDisk struct {
	path string
	dir  *os.File
	lock *os.File // locked as long as it is open
}

// openDir opens the directory of the file at path and takes the file's lock.
func openDir(path string) (*osDisk, error) {
	lock, err := os.OpenFile(path+lockSuffix, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := tryLock(lock); err != nil {
		_ = lock.Close()
		return nil, err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		_ = lock.Close()
		return nil, err
	}
	return &osDisk{path: filepath.Dir(path), dir: dir, lock: lock}, nil
}

func (d *osDisk) at(name string) string { return filepath.Join(d.path, name) }

func (d *osDisk) read(name string) ([]byte, error) { return os.ReadFile(d.at(name)) }

func (d *osDisk) create(name string) (file, error) {
	f, err := os.OpenFile(d.at(name), os.O_CREATE|os.O_TRUNC|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (d *osDisk) shorten(name string, size int64) (file, error) {
	f, err := os.OpenFile(d.at(name), os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return nil, err
	}
	if err := f.Truncate(size); err != nil {
		_ = f.Close()
		return nil, err
	}
	return osFile{f}, nil
}

func (d *osDisk) rename(from, to string) error { return os.Rename(d.at(from), d.at(to)) }

func (d *osDisk) remove(name string) error { return os.Remove(d.at(name)) }

func (d *osDisk) syncDir() error { return d.dir.Sync() }

// close ends with the lock: whoever takes it must find all else done.
func (d *osDisk) close() error { return errors.Join(d.dir.Close(), d.lock.Close()) }

type osFile struct{ f *os.File }

func (o osFile) write(b []byte) error { _, err := o.f.Write(b); return err }

func (o osFile) sync() error { return o.f.Sync() }

func (o osFile) close() error { return o.f.Close() }
