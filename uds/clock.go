package uds

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// Clock returns the reader of the clock that all deadlines on this host are
// reckoned by: CLOCK_BOOTTIME, which goes on while the host is suspended, as
// Go's own monotonic clock does not (design section 5). It fails where the
// kernel has no such clock, and then always will.
//
// Two readers agree only inside one time namespace.
func Clock() (func() time.Duration, error) {
	if _, err := bootTime(); err != nil {
		return nil, fmt.Errorf("read CLOCK_BOOTTIME: %w", err)
	}
	return func() time.Duration {
		now, err := bootTime()
		if err != nil {
			// It worked before. A guess instead would hold on to lost locks.
			panic(fmt.Sprintf("read CLOCK_BOOTTIME: %v", err))
		}
		return now
	}, nil
}

func bootTime() (time.Duration, error) {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return 0, err
	}
	return time.Duration(ts.Nano()), nil
}
