package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/raftlock/raftlock/cmd/raftlock/internal/runner"
	raftlock "github.com/raftlock/raftlock/sdk/go"
)

// The statuses of "raftlock status".
const (
	exitDegraded  = 1
	exitCannotSay = 2
)

func newStatus(g *global) *cobra.Command {
	want := wantHealthy
	cmd := g.reading(&cobra.Command{
		Use:   "status",
		Short: "Show this agent and its cluster",
		Long: `Show this agent and its cluster: whether all is well, the leader, this agent
and its role, how many voters may still fail, the sessions here; then all nodes.

Exit statuses: 0 all is well; 1 degraded (a voter is missing or catches up) or no quorum;
2 cannot say: no agent answers, or this user may not ask.

Whoever restarts an agent by this status asks for less with --want, or a voter
that is missing somewhere gets all others restarted.`,
		Example: `  raftlock status
  raftlock status --want serving
  raftlock status --json | jq .has_quorum`,
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !slices.Contains(wants, want) {
				return exit(runner.ExitUsage, fmt.Errorf("--want %q: give one of %s", want, strings.Join(wants, ", ")))
			}
			var s raftlock.Status
			err := g.read(cmd, func(ctx context.Context, c *raftlock.Client) (err error) {
				s, err = c.Status(ctx)
				return err
			})
			if err != nil {
				var cannot *exitError
				errors.As(err, &cannot) // all that read returns is one
				if want == wantAlive && answered(err) {
					_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "raftlock: alive, and no more is known: %s\n", forPeople(cannot.err.Error()))
					return nil
				}
				return exit(exitCannotSay, cannot.err)
			}
			v := judge(s)
			v.code = v.under(want, s)
			return report(cmd.OutOrStdout(), s, v, g.json)
		},
	})
	cmd.Flags().StringVar(&want, "want", want,
		"exit with 0 if the agent is alive (it answers), serving (it reaches a leader that leads, and has caught up if it votes), or healthy (and no voter is missing)")
	// It fails only for a flag that does not exist, which a test would see.
	_ = cmd.RegisterFlagCompletionFunc("want", cobra.FixedCompletions(wants, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// What --want takes.
const (
	wantAlive   = "alive"
	wantServing = "serving"
	wantHealthy = "healthy"
)

var wants = []string{wantAlive, wantServing, wantHealthy}

// answered reports that the agent itself said no, as it does in a crowd: only
// its own words are a detail.
func answered(err error) bool {
	var told *raftlock.Error
	return errors.As(err, &told) && told.Detail != ""
}

// under is the exit status for who wants so much.
func (v verdict) under(want string, s raftlock.Status) int {
	switch {
	case want == wantAlive, want == wantServing && s.HasQuorum && s.Reach == "OK" && s.Behind == 0:
		return 0
	}
	return v.code
}

// verdict is the cluster's health as one agent sees it.
type verdict struct {
	code   int
	text   string
	voters int
	alive  int
	role   string // of the agent that was asked
}

func judge(s raftlock.Status) verdict {
	v := verdict{}
	for _, n := range s.Nodes {
		if n.Name == s.Agent && (s.ServerID == "" || n.ServerID == "" || n.ServerID == s.ServerID) {
			v.role = n.Role
		}
		if n.Role != "voter" {
			continue
		}
		v.voters++
		if n.Alive {
			v.alive++
		}
	}
	switch {
	case s.ClusterID == "":
		v.code, v.text = exitDegraded, "no: "+cmp.Or(s.Doing, "this agent belongs to no cluster yet")
	case s.Doing != "":
		v.code, v.text = exitDegraded, "no: "+s.Doing
	case s.Reach == "NO_QUORUM":
		v.code, v.text = exitDegraded, "no: no quorum, bring voters back; holds stay valid to their deadlines"
	case !s.HasQuorum || s.Reach == "NO_LEADER":
		v.code, v.text = exitDegraded, "no: no leader at the moment"
	case s.Behind > 0:
		v.code, v.text = exitDegraded, fmt.Sprintf("degraded: this voter catches up, and lacks %d entries of the log", s.Behind)
	case v.alive < v.voters:
		v.code, v.text = exitDegraded, fmt.Sprintf("degraded: %d of %d voters missing", v.voters-v.alive, v.voters)
	default:
		v.text = "yes"
	}
	return v
}

func report(w io.Writer, s raftlock.Status, v verdict, asJSON bool) error {
	if asJSON {
		if err := printJSON(w, s); err != nil {
			return err
		}
		return exit(v.code, nil)
	}
	leader := "none known"
	if s.LeaderName != "" || s.LeaderID != "" {
		leader = fmt.Sprintf("%s (term %d)", plain(cmp.Or(s.LeaderName, s.LeaderID)), s.Term)
	}
	quorum := "not known"
	if s.QuorumSize > 0 {
		quorum = fmt.Sprintf("%d voters, %d there, %d needed: %d more may fail", v.voters, v.alive, s.QuorumSize, max(v.alive-int(s.QuorumSize), 0))
	}
	_, err := fmt.Fprintf(w, "healthy:  %s\nleader:   %s\nagent:    %s, %s, version %s\nquorum:   %s\nsessions: %d here, with %d holds and %d waits\n\n",
		plain(v.text), leader, plain(s.Agent), cmp.Or(v.role, "unknown"), plain(cmp.Or(s.Version, "not known")), quorum,
		s.Sessions, s.Holds, s.Waits)
	if err != nil {
		return err
	}
	if err := printNodes(w, s.Nodes); err != nil {
		return err
	}
	return exit(v.code, nil)
}

func printNodes(w io.Writer, nodes []raftlock.Node) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "NODE\tROLE\tALIVE\tADDRESS\tID")
	for _, n := range nodes {
		role, alive := n.Role, "no"
		if n.Leader {
			role += ", leader"
		}
		if n.Alive {
			alive = "yes"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", plain(n.Name), role, alive, plain(n.Address), cmp.Or(plain(n.ServerID), "-"))
	}
	return t.Flush()
}

func sorted(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }
