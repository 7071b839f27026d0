package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	raftlockv1 "github.com/raftlock/raftlock/api/raftlock/v1"
	"github.com/raftlock/raftlock/cmd/raftlock/internal/runner"
	raftlock "github.com/raftlock/raftlock/sdk/go"
)

const defaultAdminSocket = "/run/raftlock-admin.sock"

// admin is the client of the administrator's socket.
type admin struct {
	socket  string
	json    bool
	timeout time.Duration
}

func newAdmin(g *global) *cobra.Command {
	a := &admin{}
	cmd := &cobra.Command{
		Use:   "admin",
		Short: "Take a lock away, and other things for administrators",
		Long: `What only an administrator may do, through a socket of its own, which only the
superuser can open as a rule.`,
		Example: "  raftlock admin force-release nightly-report",
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	f := cmd.PersistentFlags()
	f.StringVar(&a.socket, "admin-socket", cmp.Or(os.Getenv("RAFTLOCK_ADMIN_SOCKET"), defaultAdminSocket),
		"the agent's socket for administrators; also RAFTLOCK_ADMIN_SOCKET")
	f.BoolVar(&a.json, "json", false, "print JSON")
	f.DurationVar(&a.timeout, "timeout", 10*time.Second, "how long to wait for the agent and a leader")
	cmd.AddCommand(newForceRelease(g, a), newForgetFounder(a))
	return cmd
}

func newForceRelease(g *global, a *admin) *cobra.Command {
	req := &raftlockv1.ForceReleaseRequest{}
	var yes bool
	cmd := &cobra.Command{
		Use:   "force-release NAME",
		Short: "Want a lock back from its holder",
		Long: `Want a lock back from its holder. The holder is told, is renewed no more, and
the next is granted the lock when the holder gave it up or its lease has ended.

With --now the next is granted it at once, although the holder still believes
that it holds: two work at the same time until the first one's lease is over.
Only a resource that refuses old tokens is safe then.

With --token only that grant is meant, and repeating the command is safe. Exit
status 76: nobody holds the lock, or not under that token; nothing was done.`,
		Example: `  raftlock admin force-release nightly-report
  raftlock admin force-release nightly-report --token 4711
  raftlock admin force-release nightly-report --now --yes`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: g.lockNames, // the application socket's
		RunE: func(cmd *cobra.Command, args []string) error {
			req.Lock = args[0]
			if cmd.Flags().Changed("token") && req.Token == 0 {
				return exit(runner.ExitUsage, errors.New("no grant has the token 0; raftlock get shows the token"))
			}
			if req.Now && !yes && !confirmed(cmd, fmt.Sprintf("Two may work under %q at the same time. Type yes to go on: ", req.Lock)) {
				return exit(runner.ExitUsage, errors.New("nothing was done; --now wants --yes, or a yes"))
			}
			return a.forceRelease(cmd, req)
		},
	}
	cmd.Flags().Uint64Var(&req.Token, "token", 0, "only if it is held under this token (default: whoever holds it now)")
	cmd.Flags().BoolVar(&req.Now, "now", false, "grant it to the next at once: dangerous, see above")
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	return cmd
}

// confirmed asks the person at the terminal; without one the answer is no.
func confirmed(cmd *cobra.Command, question string) bool {
	if in, ok := cmd.InOrStdin().(*os.File); ok && !runner.IsTerminal(in) {
		return false
	}
	_, _ = fmt.Fprint(cmd.ErrOrStderr(), question)
	answer, _ := bufio.NewReader(cmd.InOrStdin()).ReadString('\n')
	return strings.TrimSpace(answer) == "yes"
}

func (a *admin) forceRelease(cmd *cobra.Command, req *raftlockv1.ForceReleaseRequest) error {
	var resp *raftlockv1.ForceReleaseResponse
	err := a.call(cmd, func(ctx context.Context, c raftlockv1.AdminClient) (err error) {
		resp, err = c.ForceRelease(ctx, req)
		return err
	})
	switch {
	case err != nil:
		return err
	case a.json:
		err = printJSON(cmd.OutOrStdout(), map[string]any{"held": resp.GetHeld(), "token": resp.GetToken()})
		if err == nil && !resp.GetHeld() {
			err = exit(runner.ExitLost, nil)
		}
	case !resp.GetHeld():
		err = exit(runner.ExitLost, fmt.Errorf("%q is not held, or not under that token; nothing was done; raftlock get shows the holder", req.GetLock()))
	case req.GetNow():
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: taken from the holder of token %d\n", plain(req.GetLock()), resp.GetToken())
	default:
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: the holder of token %d was told; the lock is free when it stops, or when its lease ends\n",
			plain(req.GetLock()), resp.GetToken())
	}
	return err
}

func newForgetFounder(a *admin) *cobra.Command {
	return &cobra.Command{
		Use:   "forget-founder CLUSTER_ID",
		Short: "Give up a first start whose founder will not return",
		Long: `Give up a first start that waits for a founder who will not return. The
cluster's id, as raftlock status tells it, guards against a slip.

Danger: if that founder did make its cluster and returns, there are two.
Repeating the command is safe.`,
		Example:           "  raftlock admin forget-founder 6f1c0ffee0ddf00d6f1c0ffee0ddf00d",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			err := a.call(cmd, func(ctx context.Context, c raftlockv1.AdminClient) error {
				_, err := c.ForgetFounder(ctx, &raftlockv1.ForgetFounderRequest{ClusterId: args[0]})
				return err
			})
			if err != nil {
				return err
			}
			if a.json {
				return printJSON(cmd.OutOrStdout(), map[string]string{"forgotten": args[0]})
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "forgotten: %s\n", plain(args[0]))
			return err
		},
	}
}

// call dials the socket for one call. It does not wait for a socket that is not
// there: an administrator wants to know.
func (a *admin) call(cmd *cobra.Command, f func(context.Context, raftlockv1.AdminClient) error) error {
	if err := positive(a.timeout); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), a.timeout)
	defer cancel()
	dial := func(ctx context.Context, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", a.socket)
	}
	conn, err := grpc.NewClient("passthrough:///localhost", grpc.WithContextDialer(dial),
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDisableServiceConfig())
	if err != nil {
		return a.explain(err)
	}
	defer conn.Close()
	return a.explain(f(ctx, raftlockv1.NewAdminClient(conn)))
}

func (a *admin) explain(err error) error {
	if err == nil {
		return nil
	}
	code, next := runner.ExitNotAcquired, "look at raftlock status, then try again"
	told := raftlock.FromStatus(err)
	switch {
	case errors.Is(told, raftlock.ErrInvalid):
		code, next = runner.ExitUsage, "change it; repeating is useless"
	case errors.Is(told, raftlock.ErrDenied):
		code, next = runner.ExitDenied, "become the superuser (sudo)"
	case errors.Is(told, raftlock.ErrNotFound):
		code, next = runner.ExitUsage, "look for it with raftlock status and raftlock ls"
	case errors.Is(told, raftlock.ErrUnnamed):
		told = err
		if status.Code(err) == codes.Unavailable {
			code, next = runner.ExitNoAgent, "is the agent running, and are you the superuser (sudo)? Its socket is named by --admin-socket or RAFTLOCK_ADMIN_SOCKET"+naming(a.socket, err.Error())
		}
	}
	return &exitError{code: code, err: fmt.Errorf("%w; %s", told, next)}
}
