package main

import (
	"cmp"
	"context"
	"errors"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/raftlock/raftlock/cmd/raftlock/internal/demo"
	"github.com/raftlock/raftlock/cmd/raftlock/internal/runner"
)

// exitDemo: the demo could not start, or has nothing left to show.
const exitDemo = 1

func newDemo() *cobra.Command {
	cfg := demo.Config{}
	cmd := &cobra.Command{
		Use:   "demo [flags] [-- SIDECAR-FLAG...]",
		Short: "Run a whole cluster on this host, to try it out and break it",
		Long: `Run a cluster of real agents on this host: processes with a loopback address,
sockets, a data directory and a log each. It prints what it sees (who leads, who
has exited), and the commands to type next.

Nothing is restarted. DIR/cluster.json lists the agents with their process ids,
sockets and addresses; it appears when all are started. Without --dir all is kept
in a temporary directory, which is removed at the end. A DIR that was used before
has its cluster started again, with its data, at the same addresses.

Ctrl-C stops what was started; a second one kills it. If the demo itself is
killed, so are its agents.

Exit statuses: 0 stopped by Ctrl-C or TERM; 1 it could not start, or all agents
have exited; 64 wrong use.`,
		Example: `  raftlock demo
  raftlock demo --voters 3 --forwarders 1 --dir /tmp/rl
  raftlock demo -- --election-timeout 500ms --heartbeat-interval 50ms`,
		Args: func(cmd *cobra.Command, args []string) error {
			if dash := cmd.ArgsLenAtDash(); len(args) > 0 && dash != 0 {
				return errors.New("raftlock demo takes only flags, and the agents' own after --")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := cfg.Validate(); err != nil {
				return exit(runner.ExitUsage, err)
			}
			var err error
			cfg.Sidecar, err = demo.FindSidecar(cmp.Or(cfg.Sidecar, os.Getenv("RAFTLOCK_SIDECAR")))
			if err != nil {
				return exit(runner.ExitUsage, err)
			}
			cfg.Extra, cfg.Program, cfg.Out = args, os.Args[0], cmd.OutOrStdout()
			ctx, hurry, done := interrupts(cmd.Context())
			defer done()
			if err := demo.Run(ctx, cfg, hurry); err != nil {
				return exit(exitDemo, err)
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.IntVar(&cfg.Voters, "voters", 5, "agents that vote: 1, 3 or 5")
	f.IntVar(&cfg.Forwarders, "forwarders", 2, "agents that never vote")
	f.StringVar(&cfg.Dir, "dir", "", "where to keep everything (default: a temporary directory)")
	f.BoolVar(&cfg.Keep, "keep", false, "keep the temporary directory")
	f.StringVar(&cfg.Sidecar, "sidecar", "", "the agent's executable (default: RAFTLOCK_SIDECAR, else raftlock-sidecar beside this program, else in PATH)")
	return cmd
}

// interrupts ends the context at the first INT, TERM or HUP, and closes the
// channel at the second. The last function gives the signals back and waits.
func interrupts(ctx context.Context) (context.Context, <-chan struct{}, func()) {
	ctx, cancel := context.WithCancel(ctx)
	hurry, over, idle := make(chan struct{}), make(chan struct{}), make(chan struct{})
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	go func() {
		defer close(idle)
		for _, act := range []func(){cancel, func() { close(hurry) }} {
			select {
			case <-signals:
				act()
			case <-over:
				return
			}
		}
	}()
	return ctx, hurry, func() {
		signal.Stop(signals)
		close(over)
		<-idle
		cancel()
	}
}
