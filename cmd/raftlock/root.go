package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"runtime/debug"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/raftlock/raftlock/cmd/raftlock/internal/runner"
	raftlock "github.com/raftlock/raftlock/sdk/go"
)

const rootLong = `Locks for the processes of many hosts, through the agent on this one.

raftlock completion SHELL prints what bash, zsh, fish and powershell need to
complete verbs, flags and the names of locks.

Exit statuses, the same in all verbs unless one says otherwise:
`

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
		Long:    rootLong + exitsText(),
		Example: `  raftlock run nightly-report -- ./report.sh
  token=$(raftlock acquire deploy --owner "deploy-$BUILD" --wait 1m)
  raftlock ls --contested
  raftlock status`,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.PersistentFlags().StringVar(&g.socket, "socket", raftlock.Socket(),
		"the agent's socket; also RAFTLOCK_SOCKET")
	root.SetVersionTemplate("{{.Version}}\n")
	root.SetHelpCommand(newHelp())
	root.AddCommand(newRun(g), newShim(), newWarden(), newAcquire(g), newRenew(g), newRelease(g),
		newGet(g), newLs(g), newStatus(g), newMembers(g), newBench(g), newAdmin(g), newDemo(), newVersion(g))
	completeFlags(root)
	return root
}

// strictCompletion has completion fail for a shell that it does not know: cobra's
// own prints help and calls it done. It is for after SetOut, which cobra's asks.
func strictCompletion(root *cobra.Command) {
	root.InitDefaultCompletionCmd()
	for _, cmd := range root.Commands() {
		if cmd.Name() == "completion" {
			cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
		}
	}
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
	return g.call(cmd, 0, f)
}

// call is read, for what may take longer by so much once an agent is there.
func (g *global) call(cmd *cobra.Command, longer time.Duration, f func(context.Context, *raftlock.Client) error) error {
	if err := positive(g.timeout); err != nil {
		return err
	}
	ready := g.permitted
	if longer > 0 {
		ready = g.reach
	}
	if err := ready(cmd.Context()); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), g.timeout+longer)
	defer cancel()
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
	ctx, cancel := context.WithTimeout(ctx, g.timeout)
	defer cancel()
	_, err := g.served(ctx)
	return err
}

func (g *global) served(ctx context.Context) (obstacle, denied error) {
	conn, err := new(net.Dialer).DialContext(ctx, "unix", g.socket)
	switch {
	case err == nil:
		return nil, conn.Close()
	case errors.Is(err, fs.ErrPermission):
		return err, exit(runner.ExitDenied, fmt.Errorf("%w; %s", err, runner.KeptOutHint))
	}
	return err, nil
}

// reachPause is how soon a socket that nobody serves is tried again.
const reachPause = 50 * time.Millisecond

// reach returns when somebody serves the socket, within the time-out: nobody is
// to wait long for a turn where there is no agent.
func (g *global) reach(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, g.timeout)
	defer cancel()
	pause := time.NewTicker(reachPause)
	defer pause.Stop()
	for {
		obstacle, denied := g.served(ctx)
		if obstacle == nil || denied != nil {
			return denied
		}
		select {
		case <-pause.C:
		case <-ctx.Done():
			return g.explain(fmt.Errorf("no agent for %v: %w", g.timeout, obstacle))
		}
	}
}

// printJSON writes v as indented JSON.
func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}
