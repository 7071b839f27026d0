package uds

import (
	"fmt"
	"os"
	"testing"
)

func TestParseStat(t *testing.T) {
	const rest = " S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 123456 99 98"
	table := []struct {
		name, line string
		want       uint64 // 0: an error
	}{
		{"plain", "42 (sleep)" + rest, 123456},
		{"spaces", "42 (tmux: server)" + rest, 123456},
		{"parentheses", "42 (a) R 1 (b))" + rest, 123456},
		{"newline", "42 (a\n) S 0)" + rest, 123456},
		{"no name at all", "42 ()" + rest, 123456},
		{"the largest", "1 (x) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 18446744073709551615", 1<<64 - 1},
		{"larger", "1 (x) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 18446744073709551616", 0},
		{"negative", "1 (x) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 -1", 0},
		{"cut off", "1 (x) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18", 0},
		{"unclosed", "1 (x S 1 2 3", 0},
		{"unopened", "1 x) S 1 2 3", 0},
		{"empty", "", 0},
	}
	for _, row := range table {
		t.Run(row.name, func(t *testing.T) {
			got, err := parseStat([]byte(row.line))
			if (err == nil) != (row.want != 0) || got != row.want {
				t.Errorf("%d, %v", got, err)
			}
		})
	}
	own, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		t.Fatal(err)
	}
	if ticks, err := parseStat(own); err != nil || ticks == 0 {
		t.Errorf("of this process: %d, %v", ticks, err)
	}
}

// FuzzParseStat: no line makes it panic, and no name hides the start time.
func FuzzParseStat(f *testing.F) {
	for _, name := range []string{"sleep", "tmux: server", ")", "(", ") (", "a) S 1 2", "\n", "", "\x00\xff"} {
		f.Add([]byte(name), uint64(123456))
	}
	f.Fuzz(func(t *testing.T, name []byte, ticks uint64) {
		_, _ = parseStat(name)
		line := fmt.Appendf(nil, "7 (%s) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 %d 5 6\n", name, ticks)
		if got, err := parseStat(line); err != nil || got != ticks {
			t.Fatalf("of %q: %d, %v", line, got, err)
		}
	})
}
