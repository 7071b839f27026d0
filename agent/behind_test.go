package agent

import "testing"

// The last entries are on their way to everybody.
func TestBehind(t *testing.T) {
	for _, c := range []struct{ leader, self, want uint64 }{
		{0, 0, 0}, // no leader told
		{5, 9, 0}, // what it told is older than this
		{behindMax, 0, 0},
		{behindMax + 1, 0, behindMax + 1},
		{10 * behindMax, 9*behindMax - 1, behindMax + 1},
	} {
		if got := behind(c.leader, c.self); got != c.want {
			t.Errorf("behind(%d, %d) = %d, want %d", c.leader, c.self, got, c.want)
		}
	}
}
