package sim

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

func entries(from, to uint64) (out []*raft.Log) {
	for i := from; i <= to; i++ {
		out = append(out, &raft.Log{Index: i, Term: 1, Data: []byte{byte(i)}})
	}
	return out
}

func bounds(t *testing.T, s raft.LogStore) [2]uint64 {
	t.Helper()
	low, err1 := s.FirstIndex()
	high, err2 := s.LastIndex()
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	return [2]uint64{low, high}
}

func TestLogStore(t *testing.T) {
	inWorld(t, func(t *testing.T, w *World, a, _ *Host) {
		s := a.Disk.Logs()
		same(t, "empty", bounds(t, s), [2]uint64{0, 0})
		before := w.Now()
		if err := s.StoreLogs(entries(1, 10)); err != nil {
			t.Fatal(err)
		}
		if took := w.Now() - before; took < writeMin || took > writeMax {
			t.Errorf("a write took %v", took)
		}
		same(t, "stored", bounds(t, s), [2]uint64{1, 10})
		for _, r := range []struct{ low, high, first, last uint64 }{
			{1, 3, 4, 10}, {8, 10, 4, 7}, {4, 7, 0, 0},
		} {
			if err := s.DeleteRange(r.low, r.high); err != nil {
				t.Fatal(err)
			}
			same(t, fmt.Sprintf("without %d to %d", r.low, r.high), bounds(t, s), [2]uint64{r.first, r.last})
		}
		wantErr(t, "a deleted entry", s.GetLog(5, &raft.Log{}), raft.ErrLogNotFound)
	})
}

// TestCrashDuringWrites: what was acknowledged is there, of what was in flight
// nothing, a prefix or all; over many seeds each occurs. What the ghost writes
// or deletes afterwards is not there.
func TestCrashDuringWrites(t *testing.T) {
	kept := map[uint64]int{}
	inWorld(t, func(t *testing.T, w *World, a, _ *Host) {
		for i := range 100 {
			h := w.AddHost(fmt.Sprint("h", i))
			logs, stable, kv := h.Disk.Logs(), h.Disk.Stable(), h.Disk.KV()
			err := errors.Join(logs.StoreLogs(entries(1, 3)), stable.SetUint64([]byte("term"), 1), kv.Save("k", []byte("old")))
			if err != nil {
				t.Fatal(err)
			}
			results := make(chan error, 2)
			go func() { results <- logs.StoreLogs(entries(4, 6)) }()
			go func() { results <- kv.Save("k", []byte("new")) }()
			time.Sleep(writeMin / 2)
			h.Crash()
			wantErr(t, "a write in flight", <-results, ErrDead)
			wantErr(t, "a write in flight", <-results, ErrDead)
			wantErr(t, "a ghost's entries", logs.StoreLogs(entries(7, 9)), ErrDead)
			wantErr(t, "a ghost's deletion", logs.DeleteRange(1, 3), ErrDead)
			// raft would panic if it were told.
			wantErr(t, "a ghost's term", stable.SetUint64([]byte("term"), 2), nil)
			h.Restart()
			b := bounds(t, h.Disk.Logs())
			same(t, "first", b[0], 1)
			kept[b[1]]++
			term, _ := h.Disk.Stable().GetUint64([]byte("term"))
			same(t, "term", term, 1)
			value, err := h.Disk.KV().Load("k")
			if err != nil || string(value) != "old" && string(value) != "new" {
				t.Errorf("file: %q, %v", value, err)
			}
			same(t, "a ghost's view", bounds(t, logs)[1], 3)
		}
	})
	for last := uint64(3); last <= 6; last++ {
		if kept[last] == 0 {
			t.Errorf("no crash kept the entries up to %d: %v", last, kept)
		}
	}
	same(t, "kinds of outcome", len(kept), 4)
}

func TestDiskFaults(t *testing.T) {
	inWorld(t, func(t *testing.T, w *World, a, b *Host) {
		logs, kv := a.Disk.Logs(), a.Disk.KV()
		a.Disk.Full(true)
		wantErr(t, "full", logs.StoreLogs(entries(1, 1)), ErrNoSpace)
		wantErr(t, "full", a.Disk.Stable().SetUint64([]byte("term"), 1), ErrNoSpace)
		same(t, "full", bounds(t, logs), [2]uint64{0, 0})
		a.Disk.Full(false)

		a.Disk.FailWrites(1)
		reached := 0
		for i := range uint64(40) {
			wantErr(t, "failing", logs.StoreLogs(entries(i+1, i+1)), ErrIO)
			if logs.GetLog(i+1, &raft.Log{}) == nil {
				reached++
			}
		}
		if reached == 0 || reached == 40 {
			t.Errorf("%d of 40 failed writes reached the disk", reached)
		}
		a.Disk.FailWrites(0)

		end := w.Now() + 3*time.Second
		go a.Disk.Stall(3 * time.Second) // while the write is in flight
		if err := kv.Save("k", []byte("v")); err != nil || w.Now() < end {
			t.Errorf("a stalled write ended %v early: %v", end-w.Now(), err)
		}

		b.Disk.StableCrashes(true)
		b.Disk.Full(true)
		if err := b.Disk.Stable().Set([]byte("vote"), []byte("x")); err != nil || b.Up() {
			t.Errorf("raft would go on: up %v, %v", b.Up(), err)
		}
		time.Sleep(w.RestartDelay + time.Second)
		same(t, "restarted", b.Incarnation(), 2)
		vote, _ := b.Disk.Stable().Get([]byte("vote"))
		same(t, "vote", string(vote), "")
	})
}

func TestKV(t *testing.T) {
	inWorld(t, func(t *testing.T, _ *World, a, _ *Host) {
		kv := a.Disk.KV()
		_, err := kv.Load("k")
		wantErr(t, "no file", err, fs.ErrNotExist)
		value := []byte("v1")
		if err := kv.Save("k", value); err != nil {
			t.Fatal(err)
		}
		value[1] = '9'
		a.Crash()
		a.Restart()
		got, err := a.Disk.KV().Load("k")
		if err != nil || string(got) != "v1" {
			t.Errorf("after a crash: %q, %v", got, err)
		}
		a.Disk.Wipe()
		a.Restart()
		_, err = a.Disk.KV().Load("k")
		wantErr(t, "wiped", err, fs.ErrNotExist)
	})
}

func TestSnapshots(t *testing.T) {
	inWorld(t, func(t *testing.T, _ *World, a, _ *Host) {
		create := func(index uint64) raft.SnapshotSink {
			s, err := a.Disk.Snapshots().Create(1, index, 1, raft.Configuration{}, 1, nil)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := fmt.Fprint(s, "state at ", index); err != nil {
				t.Fatal(err)
			}
			return s
		}
		kept := func() string {
			list, err := a.Disk.Snapshots().List()
			if err != nil || len(list) == 0 {
				return ""
			}
			_, r, err := a.Disk.Snapshots().Open(list[0].ID)
			if err != nil {
				t.Fatal(err)
			}
			content, _ := io.ReadAll(r)
			return string(content)
		}
		older, newer, open := create(5), create(9), create(20)
		same(t, "none closed", kept(), "")
		for _, s := range []raft.SnapshotSink{newer, older} {
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
		}
		same(t, "the older closed later", kept(), "state at 9")
		cancelled := create(30)
		if err := errors.Join(cancelled.Cancel(), cancelled.Close()); err != nil {
			t.Fatal(err)
		}
		a.Crash()
		wantErr(t, "a ghost's close", open.Close(), ErrDead)
		a.Restart()
		same(t, "after a crash", kept(), "state at 9")
	})
}
