package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/raftlock/raftlock/cmd/raftlock/internal/runner"
	raftlock "github.com/raftlock/raftlock/sdk/go"
)

const runLong = `Wait for the lock NAME, run the command while it is held, give the lock back,
and exit with the command's status.

The command finds RAFTLOCK_TOKEN (the fencing token of this grant: send it with
every write, and let the store refuse lower ones), RAFTLOCK_LOCK and
RAFTLOCK_SOCKET in its environment. Nothing else is changed: its standard
descriptors, and others that were open, are the runner's.

The command runs in a process group of its own. INT, TERM, HUP, QUIT, USR1,
USR2, WINCH, TSTP and CONT that the runner gets go to that group. At a terminal
the group is its foreground; Ctrl-Z does not suspend it, since a runner that
stops cannot keep its lock (kill -TSTP to the runner stops the command alone,
kill -CONT lets it go on). The runner itself never ends before the command: a
command that ignores INT is ended with kill -KILL.

When the command has ended, whatever it left in its group gets TERM and, after
--stop-timeout, KILL; then the lock is given back. What is to live on has to
leave the group (setsid) and is not protected by the lock.

When the lock cannot be renewed, the group gets TERM so early that, after
--stop-timeout, KILL still comes before anyone else can be granted the lock.
When the lock is revoked (raftlock admin force-release), TERM comes at once and
KILL when the lease ends. Both exit with 76.

Beside the command runs a warden, a small process of this same program. When the
runner is killed with SIGKILL, the warden kills all of the command's group, and
the lock is free when nothing of it is left. When the runner is stopped (SIGSTOP)
the group gets KILL before anyone else can be granted the lock. A warden that is
killed is replaced.

What this cannot cover; the token is for these:
  processes that left the command's group (setsid, daemons)
  the command's own children, when runner and warden are killed together; the
    kernel still kills the command
  a runner and a warden that are stopped together, or a host that is frozen
  a command that gains privileges when it starts (setuid): an unprivileged
    runner or warden cannot kill it

Exit statuses: the command's own; 128+n if signal n ended it, or the wait;
64 wrong use; 69 no agent on the socket for 10 s (or --wait); 75 not acquired,
or with --try no answer for 5 s; 76 lost; 77 denied; 126 and 127 the command
could not be executed, was not found.`

func newRun(g *global) *cobra.Command {
	cfg := runner.Config{}
	var wait time.Duration
	cmd := &cobra.Command{
		Use:   "run [flags] NAME -- COMMAND [ARGUMENT...]",
		Short: "Run a command while holding a lock",
		Long:  runLong,
		Example: `  raftlock run nightly-report -- ./report.sh
  raftlock run --try --ttl 30s backup/db1 -- pg_dump -f /backup/db1 db1
  raftlock run --wait 5m deploy -- sh -c 'deploy --fence "$RAFTLOCK_TOKEN"'`,
		Args: lockAndCommand,
		// The command's words are files, as a rule.
		ValidArgsFunction: func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
			if len(args) == 0 {
				return g.lockNames(cmd, args, typed)
			}
			return nil, cobra.ShellCompDirectiveDefault
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg.Socket, cfg.Lock, cfg.Command, cfg.Wait = g.socket, args[0], args[1:], -1
			if wait < 0 {
				return exit(runner.ExitUsage, fmt.Errorf("--wait %v is negative; leave it out to wait for ever", wait))
			}
			if cmd.Flags().Changed("wait") {
				cfg.Wait = wait
			}
			if !cmd.Flags().Changed("stop-timeout") {
				cfg.StopTimeout = runner.DefaultStopTimeout(cfg.TTL)
			}
			cfg.Shim, cfg.Warden = []string{"/proc/self/exe", shimVerb}, []string{"/proc/self/exe", wardenVerb}
			cfg.Environ = os.Environ()
			cfg.Stdin, cfg.Stdout, cfg.Stderr = os.Stdin, os.Stdout, os.Stderr
			return exit(runner.Run(cmd.Context(), cfg))
		},
	}
	f := cmd.Flags()
	f.DurationVar(&cfg.TTL, "ttl", raftlock.DefaultTTL, "how long the lock outlives an agent that fell silent; below 3s it does not survive a leader's crash")
	f.BoolVar(&cfg.Try, "try", false, "do not wait: exit with 75 if somebody holds the lock, or nobody answers for 5s")
	f.DurationVar(&wait, "wait", 0, "how long to wait for the lock (default: for ever)")
	f.Int32Var(&cfg.Priority, "priority", 0, "higher goes first")
	f.DurationVar(&cfg.StopTimeout, "stop-timeout", 0, "what the command has between TERM and KILL (default: 2s, at most a quarter of the TTL)")
	return cmd
}

// lockAndCommand wants the dashes: a flag of the command's must not be taken
// for one of ours.
func lockAndCommand(cmd *cobra.Command, args []string) error {
	if dash := cmd.ArgsLenAtDash(); dash != 1 || len(args) < 2 {
		return errors.New("raftlock run takes one lock's name, then --, then a command: raftlock run nightly-report -- ./report.sh")
	}
	return nil
}

// shimVerb is what the command's process executes before the command: see
// internal/runner.
const shimVerb = "__exec"

func newShim() *cobra.Command {
	return &cobra.Command{
		Use:    shimVerb + " ORDERS REPORTS -- COMMAND [ARGUMENT...]",
		Hidden: true,
		Args:   cobra.MinimumNArgs(3),
		RunE: func(cmd *cobra.Command, args []string) error {
			orders, err1 := strconv.Atoi(args[0])
			reports, err2 := strconv.Atoi(args[1])
			if err := errors.Join(err1, err2); err != nil {
				return exit(runner.ExitUsage, fmt.Errorf("%w; this verb is started by raftlock run alone", err))
			}
			return exit(runner.Shim(cmd.Context(), orders, reports, args[2:]))
		},
	}
}

// wardenVerb is what ends the command when its runner cannot: see
// internal/runner.
const wardenVerb = "__warden"

func newWarden() *cobra.Command {
	return &cobra.Command{
		Use:    wardenVerb,
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE:   func(cmd *cobra.Command, _ []string) error { return exit(runner.Warden(cmd.Context())) },
	}
}
