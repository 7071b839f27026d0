package daemon

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// The watchdog is fed by progress and by nothing else, and again once there is
// progress again.
func TestFeed(t *testing.T) {
	for _, c := range []struct {
		name string
		// progress is asked within the first hour; from then on all is well.
		progress   func(context.Context) error
		fed        bool // within that hour
		complaints bool
	}{
		{"all goes on", func(context.Context) error { return nil }, true, false},
		{"a part hangs", func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }, false, true},
		{"a part fails", func(context.Context) error { return errors.New("closed") }, false, true},
		{"a part is slow, within the interval", func(context.Context) error { time.Sleep(8 * time.Second); return nil }, true, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const every = 10 * time.Second
				ctx, cancel := context.WithCancel(t.Context())
				hour := time.Now().Add(time.Hour)
				early, late, complaints := 0, 0, 0
				fed := func() {
					if time.Now().Before(hour) {
						early++
					} else {
						late++
					}
				}
				progress := func(ctx context.Context) error {
					if time.Now().Before(hour) {
						return c.progress(ctx)
					}
					return nil
				}
				done := make(chan error, 1)
				go func() { done <- feed(ctx, every, progress, fed, func(error) { complaints++ }) }()
				time.Sleep(2 * time.Hour)
				cancel()
				if err := <-done; err != nil {
					t.Error(err)
				}
				if least := int(time.Hour / every); c.fed != (early >= least-1) || !c.fed && early > 0 || late < least-1 {
					t.Errorf("fed %d times while it was so, and %d times later", early, late)
				}
				if c.complaints != (complaints > 0) || complaints > int(time.Hour/every)+1 {
					t.Errorf("%d complaints", complaints)
				}
			})
		})
	}
}
