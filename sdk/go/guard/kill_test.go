package guard

import (
	"bufio"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

const childVariable = "RAFTLOCK_TEST_GUARD"

func TestMain(m *testing.M) {
	if path := os.Getenv(childVariable); path != "" {
		child(path)
	}
	os.Exit(m.Run())
}

// child raises tokens, several at a time, and says which were accepted, until
// it is killed.
func child(path string) {
	const renewMin = 4 << 10
	d, err := openDir(path)
	if err != nil {
		panic(err)
	}
	g, err := openOn(d, filepath.Base(path), randomSalt, renewMin)
	if err != nil {
		panic(err)
	}
	var said sync.Mutex
	var working sync.WaitGroup
	for r := range 8 {
		working.Go(func() {
			name := fmt.Sprint("r", r)
			for token := g.Highest(name) + 1; ; token++ {
				if err := g.Check(name, token); err != nil {
					panic(err)
				}
				said.Lock()
				fmt.Println(name, token)
				said.Unlock()
			}
		})
	}
	working.Wait()
}

// TestKilledProcessForgetsNothing kills it for real, again and again, and takes
// the file over at once.
func TestKilledProcessForgetsNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens")
	rng := rand.New(rand.NewPCG(3, 4))
	accepted := map[string]uint64{}
	for round := range 15 {
		for r, token := range killed(t, path, 1+rng.IntN(150)) {
			accepted[r] = max(accepted[r], token)
		}
		g, err := Open(path)
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		for r, token := range accepted {
			if got := g.Highest(r); got < token || got > token+1 {
				t.Errorf("round %d: %s is %d, accepted was %d", round, r, got, token)
			}
			if token > 1 && !errors.Is(g.Check(r, token-1), ErrStale) {
				t.Errorf("round %d: %s took a stale token", round, r)
			}
		}
		for r := range 8 {
			// It is remembered, so it is relied on.
			name := fmt.Sprint("r", r)
			accepted[name] = g.Highest(name)
		}
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	}
}

// killed runs a child, kills it when it has said so many, and returns all that
// it said.
func killed(t *testing.T, path string, after int) map[string]uint64 {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe)
	cmd.Env = append(os.Environ(), childVariable+"="+path)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	said := map[string]uint64{}
	lines := bufio.NewScanner(out)
	for n := 1; lines.Scan(); n++ {
		var r string
		var token uint64
		if _, err := fmt.Sscan(lines.Text(), &r, &token); err == nil {
			said[r] = max(said[r], token)
		}
		if n == after {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	_ = cmd.Wait()
	return said
}
