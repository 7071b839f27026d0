package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/raftlock/raftlock/cmd/raftlock/internal/runner"
	raftlock "github.com/raftlock/raftlock/sdk/go"
)

const rootLong = `Locks for the processes of many hosts, through the agent on this one.

Exit statuses, unless a verb says otherwise:
  0    done
  64   wrong use: the flags, the arguments, a name out of bounds
  69   no agent reachable on the socket, or it gave no answer
  75   not now: the lock was not acquired, or there is no quorum; try again
  76   the lock was lost, and the command stopped
  77   denied
  126  the command could not be executed
  127  the command was not found
  128+n  signal n ended the command, or the wait for the lock`

// global are the flags of all verbs.
type global struct {
	socket  string
	json    bool
	timeout time.Duration
}

func newRoot() *cobra.Command {
	g := &global{}
	info, _ := debug.ReadBuildInfo()
	root := &cobra.Command{
		Use:     "raftlock",
		Version: versionOf(version, info).String(),
		Short:   "Distributed locks, freed the instant their holder dies",
		Long:    rootLong,
		Example: `  raftlock run nightly-report -- ./report.sh
  raftlock ls --contested
  raftlock status`,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.PersistentFlags().StringVar(&g.socket, "socket", cmp.Or(os.Getenv("RAFTLOCK_SOCKET"), raftlock.DefaultSocket),
		"the agent's socket; also RAFTLOCK_SOCKET")
	root.SetVersionTemplate("{{.Version}}\n")
	root.SetHelpCommand(newHelp())
	root.AddCommand(newRun(g), newShim(), newWarden(), newGet(g), newLs(g), newStatus(g), newAdmin(), newDemo(), newVersion(g))
	return root
}

// newHelp is cobra's, but that it fails for what there is no help for.
func newHelp() *cobra.Command {
	return &cobra.Command{
		Use:               "help [VERB]",
		Short:             "Help about any verb",
		Example:           "  raftlock help run",
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			about, rest, err := cmd.Root().Find(args)
			if err != nil || about == nil || len(rest) > 0 {
				return exit(runner.ExitUsage, fmt.Errorf("there is no verb %q; raftlock help lists them", strings.Join(args, " ")))
			}
			about.InitDefaultHelpFlag()
			about.InitDefaultVersionFlag()
			return about.Help()
		},
	}
}

// reading adds the flags of verbs that read.
func (g *global) reading(cmd *cobra.Command) *cobra.Command {
	cmd.Flags().BoolVar(&g.json, "json", false, "print JSON")
	cmd.Flags().DurationVar(&g.timeout, "timeout", 5*time.Second, "how long to wait for the agent and a leader")
	return cmd
}

// positive refuses a --timeout in which nothing can be done.
func positive(timeout time.Duration) error {
	if timeout > 0 {
		return nil
	}
	return exit(runner.ExitUsage, fmt.Errorf("--timeout %v is not above zero; give a longer one", timeout))
}

// read calls f with a client, within the time-out.
func (g *global) read(cmd *cobra.Command, f func(context.Context, *raftlock.Client) error) error {
	if err := positive(g.timeout); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), g.timeout)
	defer cancel()
	if err := g.permitted(ctx); err != nil {
		return err
	}
	client, err := raftlock.Dial(ctx, raftlock.WithSocket(g.socket))
	if err != nil {
		return g.explain(err)
	}
	defer client.Close()
	return g.explain(f(ctx, client))
}

// permitted says at once that the socket's mode keeps this user out: the client
// would ask again until the time is over, and then tell of no agent.
func (g *global) permitted(ctx context.Context) error {
	conn, err := new(net.Dialer).DialContext(ctx, "unix", g.socket)
	if err == nil {
		return conn.Close()
	}
	if !errors.Is(err, fs.ErrPermission) {
		return nil
	}
	return exit(runner.ExitDenied, fmt.Errorf("%w; %s", err, runner.KeptOutHint))
}

// explain gives a read's error its status and its end.
func (g *global) explain(err error) error {
	var exit *exitError
	code, next := runner.ExitNoAgent, "is the agent running? Its socket is named by --socket or RAFTLOCK_SOCKET"
	if err != nil {
		next += naming(g.socket, err.Error())
	}
	switch {
	case err == nil, errors.As(err, &exit):
		return err
	case errors.Is(err, raftlock.ErrInvalid):
		code, next = runner.ExitUsage, "change it; repeating is useless"
	case errors.Is(err, raftlock.ErrDenied):
		code, next = runner.ExitDenied, "ask who administers this host's agent"
	case errors.Is(err, raftlock.ErrNoQuorum), errors.Is(err, raftlock.ErrNoLeader):
		code, next = runner.ExitNotAcquired, "look at raftlock status; get and ls show with --stale what this agent last knew"
	case errors.Is(err, raftlock.ErrRateLimited), errors.Is(err, raftlock.ErrQueueFull):
		code, next = runner.ExitNotAcquired, "try again later"
	}
	return &exitError{code: code, err: fmt.Errorf("%w; %s", err, next)}
}

// print writes v as indented JSON.
func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}
