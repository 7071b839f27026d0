// Command raftlock is what people type: run a command under a lock, look at
// locks and at the cluster, try a cluster out. It is a client of the agent's
// socket like any application, and can do nothing that they cannot, but for the
// verbs of "admin", which need the administrator's socket.
//
// It promises the exit statuses that "raftlock help" lists, that errors go to
// the standard error and end with what to do next, and that --json prints what
// the Go SDK's types say. It does not promise the form of anything printed
// without --json. What "raftlock run" and "raftlock demo" promise
// is in internal/runner and internal/demo. Package main owns one goroutine,
// which takes the signals of a demo or of an acquire, and is waited for.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/raftlock/raftlock/cmd/raftlock/internal/runner"
)

func main() {
	os.Exit(execute(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
}

// execute is the program: it parses, works, says what went wrong and returns
// the exit status.
func execute(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := newRoot()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	strictCompletion(root)
	err := root.ExecuteContext(ctx)
	var exit *exitError
	switch {
	case err == nil:
		return 0
	case !errors.As(err, &exit):
		// All that the verbs themselves return is an exitError: cobra refused.
		exit = &exitError{code: runner.ExitUsage, err: fmt.Errorf("%w; raftlock help shows how", err)}
	}
	if exit.err != nil {
		// Nobody can be told that telling failed.
		_, _ = fmt.Fprintf(stderr, "raftlock: %s\n", forPeople(exit.err.Error()))
	}
	return exit.code
}

// exitError ends the program with a status; err is nil if all has been said.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return fmt.Sprintf("exit status %d: %v", e.code, e.err) }

func (e *exitError) Unwrap() error { return e.err }

// exit makes what a verb returns.
func exit(code int, err error) error {
	if code == 0 && err == nil {
		return nil
	}
	return &exitError{code: code, err: err}
}
