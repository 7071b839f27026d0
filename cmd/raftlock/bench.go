package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/raftlock/raftlock/cmd/raftlock/internal/bench"
	"github.com/raftlock/raftlock/cmd/raftlock/internal/runner"
	raftlock "github.com/raftlock/raftlock/sdk/go"
)

func newBench(g *global) *cobra.Command {
	cfg := bench.Config{}
	var contend int
	var ttl time.Duration
	cmd := g.reading(&cobra.Command{
		Use:   "bench",
		Short: "Measure what locks cost through this agent",
		Long: `Take locks and give them back for a while, and print how often and how fast:
--workers each on a lock of its own, or --contend workers on a single lock,
which then goes from hand to hand. Each worker has a session of its own, as
processes have, and asks again when it was answered.

It is load on the whole cluster: every acquire and every release is a log entry.

Ctrl-C prints what was measured so far; that is status 0 too. No lock stays held.
Other errors end it with their status, after the figures there are.

  acquire   from the request to the grant; of contenders, the wait too
  release   from the request to its confirmation
  hand-off  of contenders: from the one's release to the next one's grant
  refused   acquires that a limit or a full queue refused`,
		Example: `  raftlock bench
  raftlock bench --workers 64 --duration 30s
  raftlock bench --contend 8 --json | jq .hand_off.p99_nanos`,
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if cmd.Flags().Changed("contend") {
				cfg.Workers, cfg.Contend = contend, true
			}
			if err := errors.Join(benchable(cfg), positive(g.timeout)); err != nil {
				return exit(runner.ExitUsage, err)
			}
			return g.bench(cmd, cfg, ttl)
		},
	})
	f := cmd.Flags()
	f.IntVar(&cfg.Workers, "workers", 8, "how many work, each on its own lock")
	f.IntVar(&contend, "contend", 0, "how many work on a single lock, instead of --workers")
	f.DurationVar(&cfg.Duration, "duration", 10*time.Second, "how long")
	f.DurationVar(&ttl, "ttl", raftlock.DefaultTTL, "the TTL of the workers' sessions")
	f.StringVar(&cfg.Prefix, "prefix", "", "what the locks' names begin with (default: raftlock-bench/PID/)")
	cmd.MarkFlagsMutuallyExclusive("workers", "contend")
	return cmd
}

func benchable(cfg bench.Config) error {
	if cfg.Workers < 1 || cfg.Workers > bench.WorkersMax {
		return fmt.Errorf("%d workers; give 1 to %d", cfg.Workers, bench.WorkersMax)
	}
	if cfg.Duration <= 0 {
		return fmt.Errorf("--duration %v is not above zero; give a longer one", cfg.Duration)
	}
	return nil
}

func (g *global) bench(cmd *cobra.Command, cfg bench.Config, ttl time.Duration) error {
	// The first signal ends the measuring; a second one kills, and then the agent
	// sees the process end.
	ctx, done := interruptible(cmd.Context())
	defer done()
	if err := g.reach(ctx); err != nil {
		return err
	}
	client, err := raftlock.Dial(ctx, raftlock.WithSocket(g.socket), raftlock.WithTTL(ttl))
	if err != nil {
		return g.explain(err)
	}
	defer client.Close()
	if cfg.Prefix == "" {
		cfg.Prefix = fmt.Sprintf("raftlock-bench/%d/", os.Getpid())
	}
	epoch := time.Now()
	cfg.Open = func(ctx context.Context) (*raftlock.Session, error) { return client.Session(ctx) }
	cfg.Patience, cfg.Clock = g.timeout, func() time.Duration { return time.Since(epoch) }
	cfg.Progress = progress(cmd.ErrOrStderr())
	report, err := bench.Run(ctx, cfg)
	if cfg.Progress != nil {
		_, _ = io.WriteString(cmd.ErrOrStderr(), "\r\x1b[K")
	}
	if err != nil && report.Pairs == 0 {
		return g.explain(err)
	}
	if g.json {
		return errors.Join(g.explain(err), printJSON(cmd.OutOrStdout(), report))
	}
	return errors.Join(g.explain(err), printReport(cmd.OutOrStdout(), report))
}

// progress tells a person at a terminal, in one line.
func progress(w io.Writer) func(time.Duration, uint64) {
	if f, ok := w.(*os.File); !ok || !runner.IsTerminal(f) {
		return nil
	}
	return func(elapsed time.Duration, pairs uint64) {
		_, _ = fmt.Fprintf(w, "\r%v: %d pairs\x1b[K", elapsed.Round(time.Second), pairs)
	}
}

func printReport(w io.Writer, r bench.Report) error {
	var b strings.Builder
	each := "each on a lock of its own"
	if r.Contend {
		each = "all on one lock"
	}
	fmt.Fprintf(&b, "workers:  %d, %s\ntime:     %.1fs\npairs:    %d, %.1f per second\n", r.Workers, each, r.Elapsed.Seconds(), r.Pairs, r.PairsPerSec)
	printQuantiles(&b, "acquire", r.Acquire)
	printQuantiles(&b, "release", r.Release)
	if r.Contend {
		printQuantiles(&b, "hand-off", r.HandOff)
	}
	fmt.Fprintf(&b, "refused:  %d\n", r.Refused)
	_, err := io.WriteString(w, b.String())
	return err
}

func printQuantiles(b *strings.Builder, what string, q bench.Quantiles) {
	fmt.Fprintf(b, "%-9s p50 %s, p90 %s, p99 %s, max %s\n", what+":", millis(q.P50), millis(q.P90), millis(q.P99), millis(q.Max))
}

// millis has one unit in all lines, so that they can be compared at a glance.
func millis(d time.Duration) string {
	return fmt.Sprintf("%.2fms", float64(d)/float64(time.Millisecond))
}
