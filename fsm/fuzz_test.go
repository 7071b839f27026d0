package fsm

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/raftlock/raftlock/fsm/command"
)

// FuzzApply: no entry whatever panics or breaks an invariant, and what follows
// it is answered.
func FuzzApply(f *testing.F) {
	y := &story{s: New(), term: 1, names: map[ID]string{}}
	for _, line := range [][]string{
		{"open", "a"}, {"acquire", "a", "2", "L"}, {"acquire", "a", "3", "L"}, {"reconcile", "a", "4", "2:1", "3"},
		{"plain-acquire", "alice", "P"}, {"release", "a", "2", "1"}, {"end", "a"}, {"revoke", "L"},
	} {
		f.Add(marshal(f, 1, y.parse(line)))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		s := mixed(t)
		s.Apply(s.Index()+1, 1, data)
		if err := s.Check(); err != nil {
			t.Fatal(err)
		}
		restored(t, s)
		apply1(t, s, &command.Command{Kind: &command.Command_SetVersion{SetVersion: &command.SetVersion{Version: 1}}})
	})
}

// drawing takes its numbers from the fuzzer's bytes, and zeros after them.
func drawing(data []byte) (d draw, left func() bool) {
	at := 0
	d = func(n int) int {
		if at >= len(data) {
			return 0
		}
		at++
		v := int(data[at-1])
		if n > 256 && at < len(data) {
			at++
			v = v<<8 | int(data[at-1])
		}
		return v % n
	}
	return d, func() bool { return at < len(data) }
}

// FuzzCommands: the state machine does what the model does.
func FuzzCommands(f *testing.F) {
	f.Add([]byte("an open, an acquire, and what else these letters are"))
	f.Add(bytes.Repeat([]byte{0, 3, 7, 1, 12, 5, 19, 4, 2}, 30))
	f.Fuzz(func(t *testing.T, data []byte) {
		d, left := drawing(data)
		p := &pairing{t: t, s: New(), m: newModel()}
		for range 200 {
			if !left() {
				break
			}
			p.step(d)
		}
		p.s = restored(t, p.s)
	})
}

// FuzzRestore: a snapshot is refused or is the snapshot of what it restores.
// Each input is tried as it is and with the checksum made right, since no
// fuzzer would guess that.
func FuzzRestore(f *testing.F) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(storySnapshot(f, string(text)))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		tryRestore(t, data)
		if n := len(data) - sha256.Size; n > 0 {
			data = data[:n]
		}
		sum := sha256.Sum256(data)
		tryRestore(t, append(bytes.Clone(data), sum[:]...))
	})
}

// storySnapshot is the state at a story's end, as a seed.
func storySnapshot(f *testing.F, text string) []byte {
	y := &story{s: New(), term: 1, names: map[ID]string{}}
	for _, line := range bytes.Split([]byte(text), []byte("\n")) {
		words := bytes.Fields(line)
		if len(words) == 0 || line[0] == ' ' || line[0] == '#' {
			continue
		}
		switch string(words[0]) {
		case "term", "made-in", "again", "snapshot", "show", "settled":
			continue
		}
		in := make([]string, len(words))
		for i, w := range words {
			in[i] = string(w)
		}
		y.s.Apply(y.s.Index()+1, 1, marshal(f, 1, y.parse(in)))
	}
	return snapshotOf(f, y.s)
}

func tryRestore(t *testing.T, data []byte) {
	t.Helper()
	s, err := Restore(bytes.NewReader(data))
	if err != nil {
		if s != nil || !errors.Is(err, ErrSnapshot) {
			t.Fatalf("state %v, error %v", s != nil, err)
		}
		return
	}
	if !bytes.Equal(snapshotOf(t, s), data) {
		t.Fatal("the snapshot of what was restored differs")
	}
}
