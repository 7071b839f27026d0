package consensus

import (
	"errors"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

var errDisk = errors.New("input/output error")

// TestFailStopWrites: after the first failed write nothing is written, also when
// the disk works again, and Fatal is called once, before the error is seen.
func TestFailStopWrites(t *testing.T) {
	tests := []struct {
		name  string
		write func(raft.LogStore, raft.StableStore, raft.SnapshotStore) error
	}{
		{"log", func(l raft.LogStore, _ raft.StableStore, _ raft.SnapshotStore) error {
			return l.StoreLog(&raft.Log{Index: 1})
		}},
		{"logs", func(l raft.LogStore, _ raft.StableStore, _ raft.SnapshotStore) error {
			return l.StoreLogs([]*raft.Log{{Index: 1}})
		}},
		{"delete", func(l raft.LogStore, _ raft.StableStore, _ raft.SnapshotStore) error { return l.DeleteRange(1, 1) }},
		{"vote", func(_ raft.LogStore, s raft.StableStore, _ raft.SnapshotStore) error {
			return s.Set([]byte("LastVoteCand"), []byte("x"))
		}},
		{"term", func(_ raft.LogStore, s raft.StableStore, _ raft.SnapshotStore) error {
			return s.SetUint64([]byte("CurrentTerm"), 1)
		}},
		{"snapshot", func(_ raft.LogStore, _ raft.StableStore, s raft.SnapshotStore) error {
			_, err := s.Create(1, 1, 1, raft.Configuration{}, 1, nil)
			return err
		}},
	}
	for _, broken := range tests {
		t.Run(broken.name, func(t *testing.T) {
			disk := &badDisk{InmemStore: raft.NewInmemStore(), snapshots: raft.NewInmemSnapshotStore(), fail: errDisk}
			calls := 0
			f := &failStop{fatal: func(err error) {
				if calls++; !errors.Is(err, errDisk) {
					t.Errorf("fatal: %v", err)
				}
			}}
			logs, stable, snapshots := failStopLogs{disk, f}, failStopStable{disk, f}, failStopSnapshots{badSnapshots{disk}, disk, f}
			if err := broken.write(logs, stable, snapshots); !errors.Is(err, errDisk) || calls != 1 {
				t.Fatalf("write: %v, %d calls of Fatal", err, calls)
			}
			disk.fail = nil
			before := disk.writes
			for _, again := range tests {
				if err := again.write(logs, stable, snapshots); !errors.Is(err, errDisk) {
					t.Errorf("%s after a failure: %v", again.name, err)
				}
			}
			if disk.writes != before || calls != 1 {
				t.Errorf("%d writes after a failure, %d calls of Fatal", disk.writes-before, calls)
			}
			if _, err := stable.Get([]byte("none")); err == nil || err.Error() != "not found" {
				t.Errorf("raft compares this error's text: %v", err)
			}
		})
	}
}

// TestFailStopSink looks at what fails while a snapshot is written.
func TestFailStopSink(t *testing.T) {
	for _, at := range []string{"write", "close", "nothing"} {
		t.Run(at, func(t *testing.T) {
			disk := &badDisk{InmemStore: raft.NewInmemStore(), snapshots: raft.NewInmemSnapshotStore()}
			var got error
			f := &failStop{fatal: func(err error) { got = err }}
			sink, err := failStopSnapshots{badSnapshots{disk}, disk, f}.Create(1, 1, 1, raft.Configuration{}, 1, nil)
			if err != nil {
				t.Fatal(err)
			}
			if at == "write" {
				disk.fail = errDisk
			}
			_, err = io.WriteString(sink, "x")
			if at == "close" {
				disk.fail = errDisk
			}
			err = errors.Join(err, sink.Close())
			if failed := at != "nothing"; errors.Is(err, errDisk) != failed || errors.Is(got, errDisk) != failed {
				t.Errorf("error %v, fatal %v", err, got)
			}
		})
	}
}

type badDisk struct {
	*raft.InmemStore
	snapshots raft.SnapshotStore
	fail      error
	writes    int
}

func (d *badDisk) write(do func() error) error {
	d.writes++
	if d.fail != nil {
		return d.fail
	}
	return do()
}

func (d *badDisk) StoreLog(l *raft.Log) error {
	return d.write(func() error { return d.InmemStore.StoreLog(l) })
}

func (d *badDisk) StoreLogs(l []*raft.Log) error {
	return d.write(func() error { return d.InmemStore.StoreLogs(l) })
}

func (d *badDisk) DeleteRange(low, high uint64) error {
	return d.write(func() error { return d.InmemStore.DeleteRange(low, high) })
}

func (d *badDisk) Set(k, v []byte) error {
	return d.write(func() error { return d.InmemStore.Set(k, v) })
}

func (d *badDisk) SetUint64(k []byte, v uint64) error {
	return d.write(func() error { return d.InmemStore.SetUint64(k, v) })
}

type badSnapshots struct{ *badDisk }

func (s badSnapshots) Create(version raft.SnapshotVersion, index, term uint64, c raft.Configuration, at uint64, trans raft.Transport) (sink raft.SnapshotSink, err error) {
	err = s.write(func() error {
		sink, err = s.snapshots.Create(version, index, term, c, at, trans)
		return err
	})
	return badSink{sink, s.badDisk}, err
}
func (s badSnapshots) List() ([]*raft.SnapshotMeta, error) { return s.snapshots.List() }
func (s badSnapshots) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	return s.snapshots.Open(id)
}

type badSink struct {
	raft.SnapshotSink
	disk *badDisk
}

func (s badSink) Write(p []byte) (n int, err error) {
	err = s.disk.write(func() error { n, err = s.SnapshotSink.Write(p); return err })
	return n, err
}

func (s badSink) Close() error { return s.disk.write(s.SnapshotSink.Close) }

// TestFailedDiskStopsTheNode: where the library would panic or carry on, the
// node stands still, says so once, and can be closed; the others go on.
func TestFailedDiskStopsTheNode(t *testing.T) {
	for _, leads := range []bool{true, false} {
		t.Run(fmt.Sprintf("leader %v", leads), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				c := newCluster(t, 3, 0, nil)
				defer c.close()
				m, l := c.leader()
				bad := m
				if !leads {
					bad = c.followers(m)[0]
				}
				bad.disk.set(func() { bad.disk.fail = errDisk })
				a := propose(t, l, acquire("a"))
				if leads && !errors.Is(a.err, ErrUnknown) || !leads && a.err != nil {
					t.Errorf("proposal: %v", a.err)
				}
				if err := <-bad.fatal; !errors.Is(err, errDisk) {
					t.Errorf("fatal: %v", err)
				}
				if leads {
					until(t, "deposed", func() bool { return m.side.leadership() == nil })
					if err := l.Confirm(t.Context()); !errors.Is(err, ErrNotLeading) {
						t.Errorf("confirmed with a failed disk: %v", err)
					}
				}
				// The disk works again, and nothing is written.
				bad.disk.set(func() { bad.disk.fail = nil })
				last, _ := bad.disk.LastIndex()
				next, l2 := c.leader(bad)
				if a := propose(t, l2, acquire("b")); a.err != nil {
					t.Errorf("%s cannot go on: %v", next.id, a.err)
				}
				time.Sleep(10 * time.Second)
				if now, _ := bad.disk.LastIndex(); now != last {
					t.Errorf("the failed disk went from %d to %d", last, now)
				}
				if err := bad.node.Close(); err != nil {
					t.Errorf("close: %v", err)
				}
			})
		})
	}
}

// TestOpenOnAFailedDisk: the library panics when it cannot write its term.
func TestOpenOnAFailedDisk(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := newCluster(t, 1, 0, nil)
		defer c.close()
		m := &member{id: "s9", addr: "s9:1", disk: newDisk(), snapshots: raft.NewInmemSnapshotStore(), fatal: make(chan error, 1)}
		m.side = &recorder{id: m.id, t: t}
		m.disk.fail = errDisk
		if n, err := Open(c.config(m)); n != nil || err == nil {
			t.Errorf("open: %v, %v", n, err)
		}
		if err := <-m.fatal; !errors.Is(err, errDisk) {
			t.Errorf("fatal: %v", err)
		}
	})
}
