package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	raftlock "github.com/raftlock/raftlock/sdk/go"
)

func newMembers(g *global) *cobra.Command {
	return g.reading(&cobra.Command{
		Use:   "members",
		Short: "List the agents of the cluster",
		Long: `List the agents that this one has in view, by name: their role, which of them
leads, where they are reached, and whether gossip hears of them. It works
without a quorum too; raftlock status judges what it means.

A word a column, "-" for what is not known: made for cut and awk. --json prints
an array.`,
		Example: `  raftlock members
  raftlock members --json | jq -r '.[] | select(.alive | not) | .name'`,
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return g.read(cmd, func(ctx context.Context, c *raftlock.Client) error {
				s, err := c.Status(ctx)
				if err != nil {
					return err
				}
				if g.json {
					return printJSON(cmd.OutOrStdout(), s.Nodes)
				}
				return printMembers(cmd.OutOrStdout(), s.Nodes)
			})
		},
	})
}

func printMembers(w io.Writer, nodes []raftlock.Node) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "NAME\tROLE\tLEADER\tADDRESS\tALIVE\tID")
	for _, n := range nodes {
		leader, alive := "-", "no"
		if n.Leader {
			leader = "leader"
		}
		if n.Alive {
			alive = "yes"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", plain(n.Name), n.Role, leader,
			cmp.Or(plain(n.Address), "-"), alive, cmp.Or(plain(n.ServerID), "-"))
	}
	return t.Flush()
}
