//go:build !linux

package raftlock

import (
	"fmt"
	"runtime"
	"time"
)

// hostClock has no clock here that an agent would share.
func hostClock() (func() time.Duration, error) {
	return nil, fmt.Errorf("%w: no CLOCK_BOOTTIME on %s", ErrClock, runtime.GOOS)
}
