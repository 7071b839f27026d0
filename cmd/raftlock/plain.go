package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/raftlock/raftlock/cmd/raftlock/internal/runner"
	raftlock "github.com/raftlock/raftlock/sdk/go"
)

// plainTTL is what the agent gives who asks for no TTL.
const plainTTL = 30 * time.Second

const ownersShare = `--owner is your own name for who holds the lock. Two processes that give one
owner name share its locks: each of them can renew and release them, and both go
on when the second acquires. Make it as unique as the work is ("deploy-$BUILD").

Nobody watches over such a hold: it ends when its TTL has passed since it was
last renewed, and no sooner if its holder dies. raftlock run watches.`

func newAcquire(g *global) *cobra.Command {
	req := raftlock.PlainAcquire{}
	cmd := g.reading(&cobra.Command{
		Use:   "acquire NAME --owner OWNER",
		Short: "Take a lock for a script, and print its token",
		Long: ownersShare + `

Prints the fencing token, and nothing else: send it with every write, and let
the store refuse lower ones. If that owner holds the lock already, it is renewed
and the same token printed: repeating the command is safe.

Exit status 75: somebody else holds it, all through --wait. A command that was
interrupted, or got no answer, may have taken the lock nevertheless; it says so.
Repeating it tells, and so does raftlock get; else the TTL gives the lock back.
Who stops waiting, or is killed, leaves the queue: its repetition waits at the
end, whatever its --request-id.`,
		Example: `  token=$(raftlock acquire deploy --owner "deploy-$BUILD" --wait 1m) || exit
  raftlock acquire deploy --owner "deploy-$BUILD" --json | jq .token`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: g.lockNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			req.Lock = args[0]
			if req.Wait < 0 {
				return exit(runner.ExitUsage, fmt.Errorf("--wait %v is negative; give how long to wait", req.Wait))
			}
			ctx, done := interruptible(cmd.Context())
			defer done()
			cmd.SetContext(ctx)
			return orCaught(ctx, g.token(cmd, req.Wait, func(ctx context.Context, c *raftlock.Client) (raftlock.PlainLock, error) {
				l, err := c.Acquire(ctx, req)
				// Before the hint about agents, which are not the matter then.
				return l, orCaught(ctx, orWait(inDoubt(err, fmt.Sprintf("%q may hold it: repeat the command, or raftlock release it", req.Owner)), req))
			}))
		},
	})
	f := cmd.Flags()
	ownerFlag(cmd, &req.Owner)
	f.DurationVar(&req.TTL, "ttl", plainTTL, "how long it is held if nobody renews it; with --wait, less than 1s is raised to that")
	f.DurationVar(&req.Wait, "wait", 0, "how long to wait for it (default: not at all)")
	f.Int32Var(&req.Priority, "priority", 0, "higher goes first")
	f.StringToStringVar(&req.Metadata, "metadata", nil, "`key=value` for people to see; repeatable")
	f.StringVar(&req.RequestID, "request-id", "", "names the wait: repeating the command with it keeps its place while the first one runs, or when its agent died (default: a random one)")
	return cmd
}

// orWait names the flag that waits.
func orWait(err error, req raftlock.PlainAcquire) error {
	switch {
	case !errors.Is(err, raftlock.ErrHeld):
		return err
	case req.Wait == 0:
		return fmt.Errorf("%w (--wait 1m)", err)
	}
	return fmt.Errorf("%w (more than --wait %v)", err, req.Wait)
}

// inDoubt ends an error with what to do where nobody knows whether the request
// was applied.
func inDoubt(err error, next string) error {
	var failed *raftlock.Error
	if errors.As(err, &failed) && failed.Applied == raftlock.AppliedUnknown {
		return fmt.Errorf("%w; %s", err, next)
	}
	return err
}

func newRenew(g *global) *cobra.Command {
	req := raftlock.PlainRenew{}
	cmd := g.reading(&cobra.Command{
		Use:   "renew NAME --owner OWNER",
		Short: "Hold a lock for another TTL, and print its token",
		Long: ownersShare + `

Prints the token, which a renewal does not change. Exit status 76: the lock is
not held any more, or not by that owner or under that token: stop what it
protects. Repeating the command is safe.`,
		Example: `  raftlock renew deploy --owner "deploy-$BUILD" --token "$token" || stop_work
  raftlock renew deploy --owner "deploy-$BUILD" --ttl 5m`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: g.lockNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			req.Lock = args[0]
			if err := realToken(cmd, req.Token); err != nil {
				return err
			}
			return g.token(cmd, 0, func(ctx context.Context, c *raftlock.Client) (raftlock.PlainLock, error) {
				l, err := c.Renew(ctx, req)
				return l, inDoubt(err, "it may be renewed, or not: repeat the command")
			})
		},
	})
	ownerFlag(cmd, &req.Owner)
	cmd.Flags().DurationVar(&req.TTL, "ttl", 0, "the new TTL (default: the one it has)")
	tokenFlag(cmd, &req.Token)
	return cmd
}

func newRelease(g *global) *cobra.Command {
	req := raftlock.PlainRelease{}
	cmd := g.reading(&cobra.Command{
		Use:   "release NAME --owner OWNER",
		Short: "Give a lock back",
		Long: ownersShare + `

Prints nothing. Exit status 76: it was not held any more, or not by that owner
or under that token. Repeating the command is safe with --token; without one,
it releases what the owner holds by then.`,
		Example: `  raftlock release deploy --owner "deploy-$BUILD" --token "$token"
  trap 'raftlock release deploy --owner "deploy-$BUILD"' EXIT`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: g.lockNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			req.Lock = args[0]
			if err := realToken(cmd, req.Token); err != nil {
				return err
			}
			return g.read(cmd, func(ctx context.Context, c *raftlock.Client) error {
				l, err := c.Release(ctx, req)
				if err != nil || !g.json {
					return inDoubt(err, "it may be given back, or not: raftlock get tells, and repeating it with --token is safe")
				}
				return printJSON(cmd.OutOrStdout(), l)
			})
		},
	})
	ownerFlag(cmd, &req.Owner)
	tokenFlag(cmd, &req.Token)
	return cmd
}

// token asks for a hold and prints its token, or all of it.
func (g *global) token(cmd *cobra.Command, longer time.Duration, ask func(context.Context, *raftlock.Client) (raftlock.PlainLock, error)) error {
	return g.call(cmd, longer, func(ctx context.Context, c *raftlock.Client) error {
		l, err := ask(ctx, c)
		if err != nil {
			return err
		}
		if g.json {
			return printJSON(cmd.OutOrStdout(), l)
		}
		_, err = fmt.Fprintln(cmd.OutOrStdout(), l.Token)
		return err
	})
}

func ownerFlag(cmd *cobra.Command, owner *string) {
	cmd.Flags().StringVar(owner, "owner", "", "your own name for who holds it (required)")
	// It fails only for a flag that does not exist.
	_ = cmd.MarkFlagRequired("owner")
}

func tokenFlag(cmd *cobra.Command, token *uint64) {
	cmd.Flags().Uint64Var(token, "token", 0, "only if it is held under this token (default: whichever it has)")
}

// realToken refuses a token that was asked for and is none: an empty variable
// in a script must not mean "whichever".
func realToken(cmd *cobra.Command, token uint64) error {
	if token == 0 && cmd.Flags().Changed("token") {
		return exit(runner.ExitUsage, errors.New("no grant has the token 0; raftlock get shows the token"))
	}
	return nil
}
