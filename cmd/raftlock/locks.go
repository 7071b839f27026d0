package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	raftlock "github.com/raftlock/raftlock/sdk/go"
)

// listMax is how many locks ls prints unless it is told to print all.
const listMax = 1000

func newGet(g *global) *cobra.Command {
	var stale bool
	cmd := g.reading(&cobra.Command{
		Use:   "get NAME",
		Short: "Show who holds a lock",
		Long: `Show who holds a lock. A lock that nobody holds is no error.

The answer is what was true after the question was asked. With --stale it is
what this agent's own replica knows, perhaps something old; on a voter it comes
without a quorum.`,
		Example: `  raftlock get nightly-report
  raftlock get nightly-report --json | jq .token`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: g.lockNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			return g.read(cmd, func(ctx context.Context, c *raftlock.Client) error {
				info, err := c.Get(ctx, args[0], options(stale)...)
				if err != nil {
					return err
				}
				if g.json {
					return printJSON(cmd.OutOrStdout(), info)
				}
				return printLock(cmd.OutOrStdout(), info)
			})
		},
	})
	staleFlag(cmd, &stale)
	return cmd
}

func newLs(g *global) *cobra.Command {
	var f raftlock.Filter
	var stale, all bool
	cmd := g.reading(&cobra.Command{
		Use:   "ls [PREFIX]",
		Short: "List the locks that are held or waited for",
		Long: fmt.Sprintf(`List the locks that are held or waited for, by name: %d at the most, or all
with --all. Each condition that is given must be met. --json prints an array.`, listMax),
		Example: `  raftlock ls backup/
  raftlock ls --contested
  raftlock ls --pattern '*/db?' --owner uid:1000@web-1 --json`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: g.lockNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				f.Prefix = args[0]
			}
			return g.read(cmd, func(ctx context.Context, c *raftlock.Client) error {
				locks, more, err := list(ctx, c, f, all, options(stale))
				if err != nil {
					return err
				}
				if more {
					_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "raftlock: there are more than %d; --all lists them, a prefix narrows them\n", listMax)
				}
				if g.json {
					return printJSON(cmd.OutOrStdout(), locks)
				}
				return printLocks(cmd.OutOrStdout(), locks)
			})
		},
	})
	cmd.Flags().BoolVar(&f.Contested, "contested", false, "only locks that somebody waits for")
	cmd.Flags().StringVar(&f.Owner, "owner", "", "only locks held by this owner (uid:1000@web-1)")
	cmd.Flags().StringVar(&f.Pattern, "pattern", "", "only names that match: * is any run of characters, ? is one")
	cmd.Flags().BoolVar(&all, "all", false, "no matter how many")
	staleFlag(cmd, &stale)
	return cmd
}

func staleFlag(cmd *cobra.Command, stale *bool) {
	cmd.Flags().BoolVar(stale, "stale", false, "served by any replica, perhaps an old answer; works without a quorum")
}

func options(stale bool) []raftlock.ReadOption {
	if stale {
		return []raftlock.ReadOption{raftlock.Stale()}
	}
	return nil
}

// list reads up to listMax locks, or all, and says whether there are more.
func list(ctx context.Context, c *raftlock.Client, f raftlock.Filter, all bool, opts []raftlock.ReadOption) ([]raftlock.LockInfo, bool, error) {
	locks := []raftlock.LockInfo{}
	for l, err := range c.Locks(ctx, f, opts...) {
		if err != nil {
			return nil, false, err
		}
		if len(locks) == listMax && !all {
			return locks, true, nil
		}
		locks = append(locks, l)
	}
	return locks, false, nil
}

func printLock(w io.Writer, l raftlock.LockInfo) error {
	state := "free"
	if l.Held {
		state = "held by " + holder(l)
		if l.Agent != "" { // plain holds are attached to none
			state += " on " + l.Agent
		}
	}
	if l.Revoked {
		state += ", revoked"
	}
	if l.Stale {
		state += " (stale)"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "lock:     %s\nstate:    %s\n", plain(l.Name), plain(state))
	if l.Held {
		fmt.Fprintf(&b, "token:    %d\nttl:      %v\n", l.Token, l.TTL)
	}
	fmt.Fprintf(&b, "waiters:  %d\n", l.Waiters)
	for _, k := range sorted(l.Metadata) {
		fmt.Fprintf(&b, "metadata: %s=%s\n", plain(k), plain(l.Metadata[k]))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func printLocks(w io.Writer, locks []raftlock.LockInfo) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "NAME\tHOLDER\tTOKEN\tWAITERS\tAGENT\tTTL\tSTATE")
	for _, l := range locks {
		who, token, agent, ttl, state := "-", "-", "-", "-", "free"
		if l.Held {
			who, token, agent, ttl, state = plain(holder(l)), strconv.FormatUint(l.Token, 10), cmp.Or(plain(l.Agent), "-"), l.TTL.String(), "held"
		}
		if l.Revoked {
			state = "revoked"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%s\t%s\t%s\n", plain(l.Name), who, token, l.Waiters, agent, ttl, state)
	}
	return t.Flush()
}

// holder is who holds, as well as it is known.
func holder(l raftlock.LockInfo) string {
	if l.Owner == "" && l.Session != "" {
		return "session " + l.Session[:min(8, len(l.Session))]
	}
	return cmp.Or(l.Owner, "somebody")
}

// plain makes text of others harmless to a terminal.
func plain(s string) string {
	return strings.Map(func(r rune) rune {
		if !strconv.IsPrint(r) {
			return '\uFFFD'
		}
		return r
	}, s)
}
