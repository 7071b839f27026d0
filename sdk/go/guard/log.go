package guard

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
)

const (
	// logBytesMin: a log shorter than this is left as it is.
	logBytesMin = 1 << 20
	// logGrowth: how many times what it says a log may grow to.
	logGrowth = 4

	newSuffix  = ".new"
	lockSuffix = ".lock"
)

// disk is one directory of the file system, and what the log needs of it. A
// name stays what it was over a crash until the directory was synced.
type disk interface {
	// read returns the whole file; fs.ErrNotExist if there is none.
	read(name string) ([]byte, error)
	// create makes an empty file, in place of an old one.
	create(name string) (file, error)
	// shorten opens a file for appending and cuts off what lies past size.
	shorten(name string, size int64) (file, error)
	rename(from, to string) error
	remove(name string) error
	syncDir() error
	// close gives the directory free, and the lock on it.
	close() error
}

// file is appended to.
type file interface {
	write([]byte) error
	sync() error
	close() error
}

// log is the file of a guard. One caller at a time.
type log struct {
	disk   disk
	name   string
	salt   func() [8]byte
	file   file
	of     [8]byte // the file's salt
	number uint64  // of the last batch
	size   int     // bytes
	// It is written anew past renewAt, which is never less than renewMin.
	renewAt, renewMin int
}

func randomSalt() (salt [8]byte) {
	_, _ = rand.Read(salt[:]) // it never fails
	return salt
}

// openLog reads the file, or makes it, and returns what it says. All of that is
// on disk when it returns: what is only in the system's memory yet was perhaps
// never accepted, but will be relied on from here on.
func openLog(d disk, name string, salt func() [8]byte, renewMin int) (*log, *contents, error) {
	l := &log{disk: d, name: name, salt: salt, renewMin: renewMin}
	if err := d.remove(name + newSuffix); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, err
	}
	data, err := d.read(name)
	if errors.Is(err, fs.ErrNotExist) {
		return l, &contents{highest: map[string]uint64{}}, l.renew(nil)
	}
	if err != nil {
		return nil, nil, err
	}
	c, err := decode(data)
	if err != nil {
		return nil, nil, err
	}
	if l.file, err = d.shorten(name, int64(c.whole)); err != nil {
		return nil, nil, err
	}
	if err := errors.Join(l.file.sync(), d.syncDir()); err != nil {
		_ = l.file.close()
		return nil, nil, err
	}
	l.of, l.number, l.size = c.salt, c.batches, c.whole
	l.plan(c.bytes())
	return l, c, nil
}

// bytes is how much a log that says just this needs, about.
func (c *contents) bytes() int {
	n := headerBytes
	for resource := range c.highest {
		n += recordBytes + len(resource)
	}
	return n
}

func (l *log) plan(live int) { l.renewAt = max(l.renewMin, logGrowth*live) }

func (l *log) long() bool { return l.size > l.renewAt }

// append takes one batch to the disk. After an error the log is of no more use.
func (l *log) append(records []record) error {
	b := encodeBatch(l.of, l.number+1, records)
	if err := l.file.write(b); err != nil {
		return err
	}
	if err := l.file.sync(); err != nil {
		return err
	}
	l.number++
	l.size += len(b)
	return nil
}

// renew writes a log that says just this and puts it in the old one's place. If
// it cannot be written the old one is still good: that is no error, and it is
// tried again when the old one has doubled. After an error the log is of no more
// use: nobody knows which of the two a crash would leave.
func (l *log) renew(records []record) error {
	next, err := l.draft(records)
	if err != nil {
		_ = l.disk.remove(l.name + newSuffix)
		if l.file == nil {
			return err // there is no old one
		}
		l.renewAt = 2 * l.size
		return nil
	}
	if err := l.disk.rename(l.name+newSuffix, l.name); err != nil {
		_ = next.file.close()
		return err
	}
	// Before the first batch goes to the new one: a crash must not bring back
	// the old.
	if err := l.disk.syncDir(); err != nil {
		_ = next.file.close()
		return err
	}
	if l.file != nil {
		_ = l.file.close()
	}
	l.file, l.of, l.number, l.size = next.file, next.of, next.number, next.size
	l.plan(l.size)
	return nil
}

// draft writes and syncs the new log beside the old.
func (l *log) draft(records []record) (*log, error) {
	f, err := l.disk.create(l.name + newSuffix)
	if err != nil {
		return nil, err
	}
	next := &log{file: f, of: l.salt()}
	if err := next.fill(records); err != nil {
		_ = f.close()
		return nil, err
	}
	return next, nil
}

func (l *log) fill(records []record) error {
	header := encodeHeader(l.of)
	if err := l.file.write(header); err != nil {
		return err
	}
	l.size = len(header)
	for len(records) > 0 {
		n, size := 0, 0
		for n < len(records) && size+records[n].size() <= batchBytesMax {
			size += records[n].size()
			n++
		}
		b := encodeBatch(l.of, l.number+1, records[:n])
		if err := l.file.write(b); err != nil {
			return err
		}
		l.number++
		l.size += len(b)
		records = records[n:]
	}
	return l.file.sync()
}

func (l *log) close() error {
	err := errors.Join(l.file.close(), l.disk.close())
	if err != nil {
		return fmt.Errorf("close %s: %w", l.name, err)
	}
	return nil
}
