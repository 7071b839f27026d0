package guard

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

var (
	errCrash = errors.New("the process is gone")
	errIO    = errors.New("input/output error")
)

// simDisk is a directory that can lose what was not synced. What programs see
// and what a loss of power leaves are kept apart.
type simDisk struct {
	rng     *rand.Rand
	stopAt  int // this operation is the last, and done in part; 0: none
	failAt  int // this operation fails, and the next do not
	ops     int
	stopped bool
	slow    time.Duration // of a sync
	syncs   int

	seen, durable map[string]*simFile
	pending       []func(map[string]*simFile) // what was done to names since the last syncDir
}

type simFile struct{ seen, durable []byte }

func newSimDisk(seed uint64) *simDisk {
	return &simDisk{rng: rand.New(rand.NewPCG(seed, 7)), seen: map[string]*simFile{}, durable: map[string]*simFile{}}
}

// op counts an operation. half: it stops here, after doing some of it.
func (d *simDisk) op() (half bool, err error) {
	if d.stopped {
		return false, errCrash
	}
	d.ops++
	switch d.ops {
	case d.stopAt:
		d.stopped = true
		return true, errCrash
	case d.failAt:
		return d.rng.IntN(2) == 0, errIO
	}
	return false, nil
}

// done carries out what is whole or nothing: of one that stopped, by chance.
func (d *simDisk) done(half bool, err error) bool { return err == nil || half && d.rng.IntN(2) == 0 }

func (d *simDisk) named(change func(map[string]*simFile)) {
	change(d.seen)
	d.pending = append(d.pending, change)
}

func (d *simDisk) read(name string) ([]byte, error) {
	if d.stopped {
		return nil, errCrash
	}
	f := d.seen[name]
	if f == nil {
		return nil, fs.ErrNotExist
	}
	return slices.Clone(f.seen), nil
}

func (d *simDisk) create(name string) (file, error) {
	half, err := d.op()
	f := &simFile{}
	if d.done(half, err) {
		d.named(func(names map[string]*simFile) { names[name] = f })
	}
	return &simHandle{d, f}, err
}

func (d *simDisk) shorten(name string, size int64) (file, error) {
	half, err := d.op()
	f := d.seen[name]
	if d.done(half, err) {
		f.seen = f.seen[:size:size]
	}
	return &simHandle{d, f}, err
}

func (d *simDisk) rename(from, to string) error {
	half, err := d.op()
	if d.done(half, err) {
		f := d.seen[from]
		d.named(func(names map[string]*simFile) { delete(names, from); names[to] = f })
	}
	return err
}

func (d *simDisk) remove(name string) error {
	if d.seen[name] == nil {
		return fs.ErrNotExist
	}
	half, err := d.op()
	if d.done(half, err) {
		d.named(func(names map[string]*simFile) { delete(names, name) })
	}
	return err
}

func (d *simDisk) syncDir() error {
	half, err := d.op()
	if d.done(half, err) {
		d.settle(len(d.pending))
	}
	return err
}

// settle makes the first n changes of names durable.
func (d *simDisk) settle(n int) {
	for _, change := range d.pending[:n] {
		change(d.durable)
	}
	d.pending = d.pending[n:]
}

func (d *simDisk) close() error { return nil }

// restart is the process's end only: what was written is there to be read.
func (d *simDisk) restart() { d.stopped, d.stopAt, d.failAt = false, 0, 0 }

// losePower leaves of what was not synced whatever a disk may leave.
func (d *simDisk) losePower() {
	d.settle(d.rng.IntN(len(d.pending) + 1))
	d.pending, d.seen = nil, maps.Clone(d.durable)
	for _, name := range slices.Sorted(maps.Keys(d.seen)) {
		f := d.seen[name]
		f.seen = d.remains(f.durable, f.seen)
		f.durable = slices.Clone(f.seen)
	}
	d.restart()
}

func (d *simDisk) remains(durable, seen []byte) []byte {
	kept := min(len(durable), len(seen))
	switch d.rng.IntN(4) {
	case 0:
		return slices.Clone(durable)
	case 1:
		return slices.Clone(seen)
	case 2:
		return slices.Clone(seen[:kept+d.rng.IntN(len(seen)-kept+1)])
	}
	// The length is there, and some of the blocks.
	mixed := slices.Clone(seen)
	const block = 16
	for at := kept; at < len(mixed); at += block {
		if d.rng.IntN(2) == 0 {
			clear(mixed[at:min(at+block, len(mixed))])
		}
	}
	return mixed
}

type simHandle struct {
	disk *simDisk
	file *simFile
}

func (h *simHandle) write(b []byte) error {
	half, err := h.disk.op()
	switch {
	case err == nil:
		h.file.seen = append(h.file.seen, b...)
	case half:
		h.file.seen = append(h.file.seen, b[:h.disk.rng.IntN(len(b)+1)]...)
	}
	return err
}

func (h *simHandle) sync() error {
	if h.disk.slow > 0 {
		time.Sleep(h.disk.slow) // in a bubble
	}
	h.disk.syncs++
	half, err := h.disk.op()
	if h.disk.done(half, err) {
		h.file.durable = slices.Clone(h.file.seen)
	}
	return err
}

func (h *simHandle) close() error { return nil }

func (d *simDisk) open(opts ...Option) (*Guard, error) {
	salt := func() (s [8]byte) {
		for i := range s {
			s[i] = byte(d.rng.Uint32())
		}
		return s
	}
	const renewMin = 300 // a log of some ten batches is written anew
	return openOn(d, "tokens", salt, renewMin, opts...)
}

// ledger is what was asked of a guard and what it said.
type ledger struct{ accepted, asked map[string]uint64 }

func newLedger() *ledger { return &ledger{map[string]uint64{}, map[string]uint64{}} }

// work checks rising tokens until an error.
func (l *ledger) work(g *Guard, rng *rand.Rand, n int) error {
	for range n {
		r := fmt.Sprint("r", rng.IntN(5))
		l.asked[r] += 1 + rng.Uint64N(3)
		token := l.asked[r]
		if err := g.Check(r, token); err != nil {
			return err
		}
		l.accepted[r] = token
	}
	return nil
}

// equal checks what the guard remembers: it is relied on from then on.
func (l *ledger) equal(g *Guard) {
	for r := range l.asked {
		if token := g.Highest(r); token > 0 && g.Check(r, token) == nil {
			l.accepted[r] = token
		}
	}
}

func (l *ledger) judge(t *testing.T, g *Guard, when string) {
	t.Helper()
	for r, token := range l.accepted {
		if got := g.Highest(r); got < token || got > l.asked[r] {
			t.Fatalf("%s: %s is %d, accepted was %d, asked %d", when, r, got, token, l.asked[r])
		}
		if token > 1 && !errors.Is(g.Check(r, token-1), ErrStale) {
			t.Fatalf("%s: %s took %d after %d", when, r, token-1, token)
		}
	}
}

// TestNothingAcceptedIsForgotten ends the process at every operation on the
// disk, lets the power fail or not, ends the next process in the middle of its
// opening, and so on; what was accepted must be remembered throughout.
func TestNothingAcceptedIsForgotten(t *testing.T) {
	const checks = 60
	renewed := 0
	for seed := range uint64(20) {
		last := false
		for stopAt := 1; !last; stopAt++ {
			d, l := newSimDisk(seed<<32|uint64(stopAt)), newLedger()
			d.stopAt = stopAt
			for life := range 4 {
				g, err := d.open()
				if errors.Is(err, ErrCorrupt) {
					t.Fatalf("seed %d, stop at %d, life %d: %v", seed, stopAt, life, err)
				}
				if err == nil {
					l.judge(t, g, fmt.Sprintf("seed %d, stop at %d, life %d", seed, stopAt, life))
					l.equal(g)
					if d.rng.IntN(4) == 0 {
						d.losePower() // with nothing written since
						continue
					}
					salt := g.log.of
					if err = l.work(g, d.rng, checks); err == nil && life == 0 {
						last = stopAt > d.ops // it was not stopped
					}
					if salt != g.log.of {
						renewed++
					}
				}
				if err != nil && !d.stopped {
					t.Fatalf("seed %d, stop at %d, life %d: %v", seed, stopAt, life, err)
				}
				if d.rng.IntN(3) == 0 {
					d.restart()
				} else {
					d.losePower()
				}
				d.stopAt = d.ops + 1 + d.rng.IntN(2*checks)
				if d.rng.IntN(2) == 0 {
					d.stopAt = d.ops + 1 + d.rng.IntN(8) // while it opens
				}
			}
			d.losePower()
			g, err := d.open()
			if err != nil {
				t.Fatalf("seed %d, stop at %d: %v", seed, stopAt, err)
			}
			l.judge(t, g, fmt.Sprintf("seed %d, stop at %d, at the end", seed, stopAt))
		}
	}
	if renewed < 100 {
		t.Errorf("the log was written anew %d times only", renewed)
	}
}

// A disk that fails once: whatever the guard accepts, before or after, is there
// after a loss of power.
func TestDiskFailsOnce(t *testing.T) {
	failed, survived := 0, 0
	for seed := range uint64(10) {
		for failAt := 1; failAt < 160; failAt++ {
			d, l := newSimDisk(seed<<32|uint64(failAt)), newLedger()
			d.failAt = failAt
			g, err := d.open()
			if err == nil {
				err = l.work(g, d.rng, 60)
				switch {
				case err == nil:
					survived++
				case !errors.Is(err, ErrFailed) || !errors.Is(err, errIO):
					t.Fatalf("seed %d, failing at %d: %v", seed, failAt, err)
				default:
					failed++
					for _, again := range []error{g.Check("r0", l.asked["r0"]+9), g.Check("other", 1), g.Forget("r1")} {
						if !errors.Is(again, ErrFailed) {
							t.Fatalf("seed %d, failing at %d: and then %v", seed, failAt, again)
						}
					}
					l.asked["r0"] += 9
				}
			}
			d.losePower()
			if g, err = d.open(); err != nil {
				t.Fatalf("seed %d, failed at %d: %v", seed, failAt, err)
			}
			l.judge(t, g, fmt.Sprintf("seed %d, failed at %d", seed, failAt))
		}
	}
	if failed < 500 || survived < 20 {
		t.Errorf("%d failed, %d survived", failed, survived)
	}
}

// While one sync is under way, all that comes gathers for the next.
func TestChecksShareASync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newSimDisk(1)
		g, err := d.open()
		if err != nil {
			t.Fatal(err)
		}
		d.slow, d.syncs = 5*time.Millisecond, 0
		start := time.Now()
		var checks sync.WaitGroup
		for i := range 500 {
			checks.Go(func() {
				if err := g.Check(fmt.Sprint("r", i), 1); err != nil {
					t.Error(err)
				}
			})
		}
		checks.Wait()
		// One that came first, all others, and the log written anew.
		if took := time.Since(start); d.syncs > 4 || took > 20*time.Millisecond {
			t.Errorf("%d syncs, %v", d.syncs, took)
		}
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	})
}

// None is accepted before its sync is over, an equal one by another caller too.
func TestNothingIsAcceptedBeforeItsSync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newSimDisk(1)
		g, err := d.open()
		if err != nil {
			t.Fatal(err)
		}
		d.slow = time.Second
		var accepted atomic.Int64
		for range 3 {
			go func() {
				if g.Check("a", 5) == nil {
					accepted.Add(1)
				}
			}()
		}
		time.Sleep(999 * time.Millisecond)
		if accepted.Load() != 0 {
			t.Error("accepted before it was on disk")
		}
		time.Sleep(time.Second)
		if accepted.Load() != 3 {
			t.Errorf("%d accepted", accepted.Load())
		}
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	})
}

// Close waits for what is under way; batches are bounded.
func TestCloseWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newSimDisk(1)
		g, err := d.open()
		if err != nil {
			t.Fatal(err)
		}
		d.slow = time.Second
		var accepted, refused atomic.Int64
		long := make([]byte, resourceBytesMax-8)
		var checks sync.WaitGroup
		for i := range 3000 {
			checks.Go(func() {
				switch err := g.Check(fmt.Sprintf("%08d%s", i, long), 1); {
				case err == nil:
					accepted.Add(1)
				case errors.Is(err, ErrClosed):
					refused.Add(1)
				default:
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		for range 2 {
			checks.Go(func() {
				if err := g.Close(); err != nil {
					t.Error(err)
				}
				if g.writing || len(g.gathered) != 0 {
					t.Error("closed while something was under way")
				}
			})
		}
		checks.Wait()
		if accepted.Load() == 0 || refused.Load() == 0 || accepted.Load()+refused.Load() != 3000 {
			t.Errorf("%d accepted, %d refused", accepted.Load(), refused.Load())
		}
		d.losePower()
		g, err = d.open()
		if err != nil {
			t.Fatal(err)
		}
		if int64(len(g.highest)) < accepted.Load() {
			t.Errorf("%d remembered, %d accepted", len(g.highest), accepted.Load())
		}
	})
}

func TestLogStaysShort(t *testing.T) {
	d := newSimDisk(1)
	g, err := d.open()
	if err != nil {
		t.Fatal(err)
	}
	for token := range uint64(5000) {
		if err := g.Check("a", token+1); err != nil {
			t.Fatal(err)
		}
		if n := len(d.seen["tokens"].seen); n > 600 || len(d.seen) != 1 {
			t.Fatalf("%d bytes, %d files", n, len(d.seen))
		}
	}
}
