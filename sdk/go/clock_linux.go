package raftlock

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// hostClock reads CLOCK_BOOTTIME, which, unlike Go's own clock, runs on while
// the host is suspended.
func hostClock() (func() time.Duration, error) {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return nil, fmt.Errorf("read CLOCK_BOOTTIME: %w", err)
	}
	return func() time.Duration {
		var ts unix.Timespec
		// It worked above, and with this clock and this memory it cannot fail.
		_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts)
		return time.Duration(ts.Nano())
	}, nil
}
