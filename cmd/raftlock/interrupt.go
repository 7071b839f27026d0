package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/raftlock/raftlock/cmd/raftlock/internal/runner"
)

// caught is a signal that ended a context.
type caught struct{ signal syscall.Signal }

func (c caught) Error() string { return fmt.Sprintf("interrupted (%v)", c.signal) }

// interruptible ends the context, with caught as its cause, at the first INT,
// TERM or HUP. The function gives the signals back and waits.
func interruptible(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	over, idle := make(chan struct{}), make(chan struct{})
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	go func() {
		defer close(idle)
		select {
		case s := <-signals:
			cancel(caught{s.(syscall.Signal)})
			signal.Stop(signals) // a second one kills
		case <-over:
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		close(over)
		<-idle
		cancel(nil)
	}
}

// orCaught gives an error the status of the signal that ended ctx, if one did.
func orCaught(ctx context.Context, err error) error {
	var by caught
	if err == nil || !errors.As(context.Cause(ctx), &by) {
		return err
	}
	var told *exitError
	if errors.As(err, &told) {
		err = told.err
	}
	return exit(runner.ExitSignal+int(by.signal), err)
}
