package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// nodeVariable makes the program a bare Raft node instead; the value is its
// nodeConfig.
const nodeVariable = "RAFTLOCK_SPEED_NODE"

// options are the command line as given.
type options struct {
	duration time.Duration
	rounds   int
	workers  []int
	sidecar  string
	dir      string
}

func main() { os.Exit(program(os.Args[1:], os.Stdout, os.Stderr)) }

// program is main with its outside handed in; the test runs it too.
func program(args []string, out, complaints io.Writer) int {
	if config := os.Getenv(nodeVariable); config != "" {
		return exitCode(runNode(config, os.Stdin, out), complaints)
	}
	opt, err := parse(args, complaints)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		return 2
	}
	// Children are told when the thread that started them ends: it must be one
	// that lasts as long as the program.
	runtime.LockOSThread()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second signal kills
	return exitCode(run(ctx, opt, out), complaints)
}

func exitCode(err error, complaints io.Writer) int {
	if err != nil {
		_, _ = fmt.Fprintf(complaints, "speed: %v\n", err)
		return 1
	}
	return 0
}

func parse(args []string, complaints io.Writer) (options, error) {
	var opt options
	var workers string
	f := flag.NewFlagSet("speed", flag.ContinueOnError)
	f.SetOutput(complaints)
	f.DurationVar(&opt.duration, "duration", 5*time.Second, "how long each measurement counts")
	f.IntVar(&opt.rounds, "rounds", 3, "how often each measurement is made; figures are medians")
	f.StringVar(&workers, "workers", "1,16,64", "numbers of workers that take and release locks")
	f.StringVar(&opt.sidecar, "sidecar", "", "the agents' binary (default: built from this tree)")
	f.StringVar(&opt.dir, "dir", "", "directory for data, on a real disk (default: a temporary one)")
	if err := f.Parse(args); err != nil {
		return opt, err
	}
	err := opt.validate(f.Args(), workers)
	if err != nil {
		_, _ = fmt.Fprintf(complaints, "speed: %v\n", err)
	}
	return opt, err
}

func (o *options) validate(rest []string, workers string) error {
	for w := range strings.SplitSeq(workers, ",") {
		n, err := strconv.Atoi(w)
		if err != nil || n < 1 || n > workersMax {
			return fmt.Errorf("-workers %q: give numbers from 1 to %d, separated by commas", workers, workersMax)
		}
		o.workers = append(o.workers, n)
	}
	switch {
	case len(rest) > 0:
		return fmt.Errorf("%q is no flag", rest[0])
	case o.duration <= 0:
		return fmt.Errorf("-duration %v: give more than nothing", o.duration)
	case o.rounds < 1:
		return fmt.Errorf("-rounds %d: give at least 1", o.rounds)
	}
	return nil
}

// run measures everything and prints it.
func run(ctx context.Context, opt options, out io.Writer) (err error) {
	dir, err := os.MkdirTemp(opt.dir, "raftlock-speed-")
	if err != nil {
		return fmt.Errorf("make a directory for data: %w", err)
	}
	defer func() {
		if err != nil && ctx.Err() == nil {
			err = fmt.Errorf("%w (what the processes logged is in %s)", err, dir)
			return
		}
		err = errors.Join(err, os.RemoveAll(dir))
	}()
	if err := describe(out, dir, opt); err != nil {
		return err
	}
	children := &children{dir: dir}
	defer children.stop()
	net := newLoopback()
	bare, err := startBare(ctx, children, net)
	if err != nil {
		return fmt.Errorf("bare raft: %w", err)
	}
	agents, err := startAgents(ctx, children, net, opt.sidecar)
	if err != nil {
		return fmt.Errorf("agents: %w", err)
	}
	defer agents.close()
	results, err := measureAll(ctx, opt, bare, agents, out)
	if err != nil {
		return err
	}
	results.print(out)
	return nil
}
