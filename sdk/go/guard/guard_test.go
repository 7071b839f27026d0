package guard

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
)

// guards are both kinds: what they accept and refuse is the same.
func guards(t *testing.T, test func(t *testing.T, g *Guard), opts ...Option) {
	t.Run("memory", func(t *testing.T) { test(t, New(opts...)) })
	t.Run("file", func(t *testing.T) {
		g, err := Open(filepath.Join(t.TempDir(), "tokens"), opts...)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = g.Close() }()
		test(t, g)
	})
}

func TestLowerTokensAreRefused(t *testing.T) {
	guards(t, func(t *testing.T, g *Guard) {
		for _, c := range []struct {
			name     string
			resource string
			token    uint64
			stale    bool
			highest  uint64
		}{
			{"the first", "a", 7, false, 7},
			{"the same again", "a", 7, false, 7},
			{"lower", "a", 6, true, 7},
			{"of another resource", "b", 6, false, 6},
			{"higher", "a", 9, false, 9},
			{"the one before", "a", 7, true, 9},
			{"the greatest", "a", ^uint64(0), false, ^uint64(0)},
			{"one less", "a", ^uint64(0) - 1, true, ^uint64(0)},
			{"a name of any bytes", "\x00\xff\n", 1, false, 1},
		} {
			err := g.Check(c.resource, c.token)
			if errors.Is(err, ErrStale) != c.stale || err != nil && !c.stale {
				t.Errorf("%s: %v", c.name, err)
			}
			if e := new(StaleError); c.stale && (!errors.As(err, &e) || e.Token != c.token || e.Highest != c.highest || e.Resource != c.resource) {
				t.Errorf("%s: %v", c.name, err)
			}
			if got := g.Highest(c.resource); got != c.highest {
				t.Errorf("%s: highest is %d", c.name, got)
			}
		}
	})
}

func TestOutOfBounds(t *testing.T) {
	guards(t, func(t *testing.T, g *Guard) {
		for name, err := range map[string]error{
			"no name":    g.Check("", 1),
			"long name":  g.Check(strings.Repeat("x", resourceBytesMax+1), 1),
			"no token":   g.Check("a", 0),
			"forget all": g.Forget(""),
		} {
			if !errors.Is(err, ErrInvalid) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if err := g.Check(strings.Repeat("x", resourceBytesMax), 1); err != nil {
			t.Errorf("longest name: %v", err)
		}
	})
}

func TestNoResourceIsForgottenForRoom(t *testing.T) {
	guards(t, func(t *testing.T, g *Guard) {
		for _, r := range []string{"a", "b"} {
			if err := g.Check(r, 5); err != nil {
				t.Fatal(err)
			}
		}
		if err := g.Check("c", 5); !errors.Is(err, ErrFull) {
			t.Errorf("a third: %v", err)
		}
		if err := g.Check("a", 6); err != nil {
			t.Errorf("a known one: %v", err)
		}
		if err := g.Check("b", 4); !errors.Is(err, ErrStale) {
			t.Errorf("a stale one: %v", err)
		}
		if err := g.Forget("a"); err != nil {
			t.Error(err)
		}
		if err := g.Check("c", 5); err != nil {
			t.Errorf("in the place of the forgotten: %v", err)
		}
	}, WithMaxResources(2))
}

func TestClosed(t *testing.T) {
	guards(t, func(t *testing.T, g *Guard) {
		for range 2 {
			if err := g.Close(); err != nil {
				t.Error(err)
			}
		}
		if err := g.Check("a", 1); !errors.Is(err, ErrClosed) {
			t.Errorf("check: %v", err)
		}
		if err := g.Forget("a"); !errors.Is(err, ErrClosed) {
			t.Errorf("forget: %v", err)
		}
	})
}

// While a write runs, no other token of its resource is accepted, higher or
// lower; other resources are not held up.
func TestDoKeepsOthersOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New()
		writing, finish := make(chan struct{}), make(chan struct{})
		go func() {
			err := g.Do(t.Context(), "a", 5, func(context.Context) error {
				close(writing)
				<-finish
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		}()
		<-writing
		if err := g.Check("b", 1); err != nil {
			t.Error(err)
		}
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		if err := g.Do(gone, "a", 9, nil); !errors.Is(err, context.Canceled) {
			t.Errorf("waiting without patience: %v", err)
		}
		var checked atomic.Bool
		go func() {
			if err := g.Check("a", 6); err != nil {
				t.Error(err)
			}
			checked.Store(true)
		}()
		synctest.Wait()
		if checked.Load() || g.Highest("a") != 5 {
			t.Error("accepted in the middle of a write")
		}
		close(finish)
		synctest.Wait()
		err := g.Do(t.Context(), "a", 5, func(context.Context) error {
			t.Error("a stale write ran")
			return nil
		})
		if !checked.Load() || !errors.Is(err, ErrStale) {
			t.Errorf("%v", err)
		}
		if len(g.turns) != 0 {
			t.Errorf("%d turns are left", len(g.turns))
		}
	})
}

func TestDoTellsWhatWriteTold(t *testing.T) {
	g := New()
	broken := errors.New("broken")
	if err := g.Do(t.Context(), "a", 5, func(context.Context) error { return broken }); err != broken {
		t.Errorf("%v", err)
	}
	func() {
		defer func() { _ = recover() }()
		_ = g.Do(t.Context(), "a", 6, func(context.Context) error { panic("x") })
	}()
	if err := g.Check("a", 5); !errors.Is(err, ErrStale) {
		t.Errorf("after writes that failed: %v", err)
	}
}

// Writers with rising tokens race; what Do lets through is in order.
func TestWritesComeInTheOrderOfTheirTokens(t *testing.T) {
	guards(t, func(t *testing.T, g *Guard) {
		const writers, each = 8, 50
		written := make([][]uint64, 4)
		var tokens atomic.Uint64
		var working sync.WaitGroup
		for range writers {
			working.Go(func() {
				for range each {
					token := tokens.Add(1)
					r := int(token % uint64(len(written)))
					err := g.Do(t.Context(), fmt.Sprint(r), token, func(context.Context) error {
						written[r] = append(written[r], token) // Do is the mutex: -race looks
						return nil
					})
					if err != nil && !errors.Is(err, ErrStale) {
						t.Error(err)
					}
				}
			})
		}
		working.Wait()
		for r, w := range written {
			if !slices.IsSorted(w) || len(w) == 0 || w[len(w)-1] != g.Highest(fmt.Sprint(r)) {
				t.Errorf("resource %d: %v", r, w)
			}
		}
	})
}

func TestFileRemembers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens")
	want := map[string]uint64{}
	rng := rand.New(rand.NewPCG(1, 2))
	for range 5 {
		g, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		for r, token := range want {
			if g.Highest(r) != token || !errors.Is(g.Check(r, token-1), ErrStale) {
				t.Fatalf("%s: %d, want %d", r, g.Highest(r), token)
			}
		}
		if err := os.WriteFile(path+newSuffix, []byte("left by a crash"), 0o600); err != nil {
			t.Fatal(err)
		}
		for range 50 {
			r := fmt.Sprint("r", rng.IntN(20))
			want[r] += 2 + rng.Uint64N(9)
			if err := g.Check(r, want[r]); err != nil {
				t.Fatal(err)
			}
		}
		if err := g.Forget("r1"); err != nil {
			t.Fatal(err)
		}
		delete(want, "r1")
		if err := g.Close(); err != nil {
			t.Fatal(err)
		}
	}
	g, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Close(); err != nil {
		t.Error(err)
	}
	names, _ := filepath.Glob(path + "*")
	if !slices.Equal(names, []string{path, path + lockSuffix}) {
		t.Errorf("left behind: %v", names)
	}
}

func TestOneProcessAFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "tokens")
	g, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink("tokens", link); err != nil {
		t.Fatal(err)
	}
	for name, path := range map[string]string{"same path": path, "by a link": link} {
		if _, err := Open(path); !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := g.Check("a", 3); err != nil {
		t.Error(err)
	}
	if err := g.Close(); err != nil {
		t.Error(err)
	}
	g, err = Open(link)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = g.Close() }()
	if g.Highest("a") != 3 {
		t.Error("forgot")
	}
}

func TestWhatIsNoGuardsFileIsRefused(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"empty": "", "another's": "hello, this is somebody's diary\n"} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(path); !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", name, err)
		}
		if after, err := os.ReadFile(path); err != nil || string(after) != text {
			t.Errorf("%s: it was changed", name)
		}
	}
	for name, path := range map[string]string{
		"a directory":       dir,
		"in no directory":   filepath.Join(dir, "none", "tokens"),
		"link to nothing":   filepath.Join(dir, "dangling"),
		"under a plain one": filepath.Join(dir, "empty", "tokens"),
	} {
		if name == "link to nothing" {
			if err := os.Symlink("nothing", path); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := Open(path); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
