package processes

import (
	"fmt"
	"slices"
	"time"
)

// spread is the median and the worst of some durations.
func spread(d []time.Duration) string {
	if len(d) == 0 {
		return "nothing (no trial went through)"
	}
	s := slices.Sorted(slices.Values(d))
	return fmt.Sprintf("%s (median), %s (worst), %d trials",
		s[(len(s)-1)/2].Round(10*time.Microsecond), s[len(s)-1].Round(10*time.Microsecond), len(s))
}
