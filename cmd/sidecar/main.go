// Command raftlock-sidecar is the agent that runs on every host: applications
// ask it for locks over a Unix socket. It has flags and signals, and no logic;
// package agent/daemon is what it runs.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
)

func main() {
	// The first signal stops in order; the second one kills, since it is no
	// longer caught.
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	os.Exit(execute(ctx, newCommand(os.LookupEnv)))
}

// What the program exits with, beside 0.
const (
	exitFailed = 1
	exitUsage  = 64 // sysexits.h: EX_USAGE
)

// failure is an error that is not the command line's fault.
type failure struct{ error }

func (f failure) Unwrap() error { return f.error }

func failed(err error) error {
	if err == nil {
		return nil
	}
	return failure{err}
}

// execute runs the command, says what went wrong, one problem a line, and
// returns the exit status.
func execute(ctx context.Context, cmd *cobra.Command) int {
	strictCompletion(cmd)
	err := cmd.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	code, next := exitUsage, "\nraftlock-sidecar --help lists the flags"
	if errors.As(err, new(failure)) {
		code, next = exitFailed, ""
	}
	// Nobody can be told that telling failed.
	_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "raftlock-sidecar:\n  %s%s\n", strings.ReplaceAll(err.Error(), "\n", "\n  "), next)
	return code
}
