package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/raftlock/raftlock/agent/daemon"
	"github.com/raftlock/raftlock/telemetry"
)

const (
	formatText = "text"
	formatJSON = "json"
)

// flags are the command line as given.
type flags struct {
	opt       daemon.Options
	devDir    string
	logLevel  string
	logFormat string
	config    string
	from      origins
}

func newFlags() *flags { return &flags{opt: daemon.DefaultOptions(), from: origins{}} }

// newCommand makes the command; lookup reads the environment.
func newCommand(lookup func(string) (string, bool)) *cobra.Command {
	return newCommandOf(lookup, defaultFile)
}

// newCommandOf takes the path of the standard file too.
func newCommandOf(lookup func(string) (string, bool), standard string) *cobra.Command {
	f := newFlags()
	prepare := func(cmd *cobra.Command) (string, error) {
		path, err := load(cmd.Flags(), lookup, f.from, standard)
		if err != nil {
			return "", err
		}
		return path, f.resolve(cmd.Flags())
	}
	cmd := &cobra.Command{
		Use:   "raftlock-sidecar",
		Short: "The RaftLock agent of one host",
		Long: `raftlock-sidecar is the RaftLock agent of one host. Applications on this host
ask it for locks at a Unix socket; five of the agents keep the state in a Raft
log, the others forward.

Every flag can be given as a variable too, --data-dir as RAFTLOCK_DATA_DIR (lists
are separated by commas), and in a YAML file, as data-dir: /var/lib/raftlock
(lists are YAML's, times are text such as 5s). A flag counts more than its
variable, and that more than the file, which --config names. raftlock-sidecar
config show tells what counts, and where it is from. How a process is called
(--config, --dev, --dev-dir) is no key of a file.

It stops in order on SIGINT or SIGTERM; a second signal kills it. The locks of
living processes stay held: they go on with the next start.

Exit statuses: 0 stopped by a signal; 1 it could not start, or a part of it
failed; 64 wrong use.`,
		Example: `  # One host, to try it out:
  raftlock-sidecar --dev

  # One of five voters on a trusted network:
  raftlock-sidecar --name a --bind 10.0.0.1 --insecure-plaintext \
      --join 10.0.0.2 --join 10.0.0.3 --expect 5`,
		Args:          cobra.NoArgs,
		Version:       versionText(),
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if _, err := prepare(cmd); err != nil {
				return err
			}
			return f.run(cmd)
		},
	}
	cmd.SetVersionTemplate("{{.Version}}\n")
	config := newConfig(f, prepare)
	cmd.AddCommand(newVersion(), config)
	cmd.SetHelpCommand(&cobra.Command{Use: "no-help", Hidden: true}) // --help says all
	f.register(cmd.Flags())
	for _, verb := range config.Commands() {
		verb.Flags().SortFlags = false
		verb.Flags().AddFlagSet(cmd.Flags())
	}
	completions(cmd)
	return cmd
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

// completions say what may follow each flag; without one, shells offer files.
func completions(cmd *cobra.Command) {
	words := map[string][]string{
		"role":       {daemon.RoleAuto, daemon.RoleForwarder},
		"expect":     {"1", "3", "5"},
		"log-level":  {"debug", "info", "warn", "error"},
		"log-format": {formatText, formatJSON},
		"config":     {"yaml", "yml"}, // the ends of files' names
	}
	directives := map[string]cobra.ShellCompDirective{
		"data-dir": cobra.ShellCompDirectiveFilterDirs, "dev-dir": cobra.ShellCompDirectiveFilterDirs,
		"socket": cobra.ShellCompDirectiveDefault, "admin-socket": cobra.ShellCompDirectiveDefault,
		"config": cobra.ShellCompDirectiveFilterFileExt,
	}
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		directive, given := directives[f.Name]
		if !given {
			directive = cobra.ShellCompDirectiveNoFileComp
		}
		// It fails only for a flag that does not exist.
		_ = cmd.RegisterFlagCompletionFunc(f.Name, cobra.FixedCompletions(words[f.Name], directive))
	})
}

func (f *flags) register(s *pflag.FlagSet) {
	o := &f.opt
	s.SortFlags = false
	s.StringVar(&f.config, "config", "", "YAML file of settings (default: "+defaultFile+" if it exists, and none with --dev)")
	s.StringVar(&o.Name, "name", o.Name, "this agent's name, unique among the agents")
	s.StringVar(&o.DataDir, "data-dir", o.DataDir, "directory of this agent's own state; an emptied one makes a new server")
	s.StringVar(&o.Socket, "socket", o.Socket, "application socket")
	s.StringVar(&o.SocketGroup, "socket-group", o.SocketGroup, "group, by name or number, that may use the application socket (default: this process's)")
	s.StringVar(&o.AdminSocket, "admin-socket", o.AdminSocket, "administrator's socket, mode 0600")
	s.StringVar(&o.Bind, "bind", o.Bind, "IP that peers and gossip listen on")
	s.StringVar(&o.Advertise, "advertise", o.Advertise, "IP that other agents reach this one at (default: --bind)")
	s.IntVar(&o.GossipPort, "gossip-port", o.GossipPort, "UDP and TCP port of gossip")
	s.IntVar(&o.PeerPort, "peer-port", o.PeerPort, "TCP port of Raft and of links between agents")
	s.StringSliceVar(&o.Join, "join", o.Join, "host or host:port of another agent's gossip; repeatable, tried for ever")
	s.IntVar(&o.Expect, "expect", o.Expect, "voters of a first start: 1, 3 or 5, the same on every agent")
	s.StringSliceVar(&o.Initial, "initial", o.Initial, "names of the agents of a first start, the same on every agent (default: whichever are found first)")
	s.StringVar(&o.Role, "role", o.Role, "auto: may become a voter; forwarder: never does")
	s.BoolVar(&o.InsecurePlaintext, "insecure-plaintext", o.InsecurePlaintext, "allow --bind beyond loopback without encryption: whoever reaches the ports is believed")
	s.StringVar(&o.HTTP, "http", o.HTTP, "loopback host:port of reads in JSON, /cluster/info, /metrics, /healthz and /readyz (default: none)")
	s.BoolVar(&o.HTTPWrites, "http-writes", o.HTTPWrites, "take, renew and release locks over --http too; off, because any user of this host could, and a web page that rebinds DNS would try")
	s.Var(&o.LimitRate, "limit-rate", "requests a second that one user may make; off: any. Releases and upkeep are never refused")
	s.Var(&o.LimitBurst, "limit-burst", "requests that one user may make at once, after a time of few; off: with --limit-rate off only")
	s.Var(&o.LimitConcurrent, "limit-concurrent", "requests of one user that may be under way, waits among them; off: any")
	s.DurationVar(&o.HeartbeatInterval, "heartbeat-interval", o.HeartbeatInterval, "how often a Raft leader is heard of; ten missed make a follower stand. Sets Raft's HeartbeatTimeout to ten times this")
	s.DurationVar(&o.ElectionTimeout, "election-timeout", o.ElectionTimeout, "how long a Raft candidate waits for votes; at least ten times --heartbeat-interval. Sets Raft's ElectionTimeout")
	s.DurationVar(&o.SnapshotInterval, "snapshot-interval", o.SnapshotInterval, "how often a voter looks whether a snapshot is due. Sets Raft's SnapshotInterval")
	s.StringVar(&f.logLevel, "log-level", "info", "debug, info, warn or error")
	s.StringVar(&f.logFormat, "log-format", formatText, "text or json")
	s.BoolVar(&o.Dev, "dev", false, "one host alone, on loopback, with --expect 1; state is kept under --dev-dir")
	s.StringVar(&f.devDir, "dev-dir", "", "with --dev: directory of data and sockets (default: raftlock-dev in the user's state folder)")
}

func (f *flags) run(cmd *cobra.Command) error {
	opt := f.opt
	log, err := f.logger(cmd.ErrOrStderr())
	if err := errors.Join(err, f.validate()); err != nil {
		return err
	}
	if opt.Dev {
		dir, err := f.dev()
		if err := errors.Join(err, os.MkdirAll(dir, 0o700)); err != nil {
			return failure{err}
		}
	}
	opt.Log = log
	opt.Version, _ = thisVersion()
	if opt.Dev {
		opt.Reached = func() { next(cmd.OutOrStdout(), opt) }
	}
	if err := opt.FromSystemd(); err != nil {
		return failure{err}
	}
	return failed(observed(cmd.Context(), opt))
}

// validate tells what is wrong with the options, each with where it was said: a
// flag is told by its name, and a variable or a line of the file by theirs too.
func (f *flags) validate() error {
	err := f.opt.Validate()
	if err == nil {
		return nil
	}
	lines := strings.Split(err.Error(), "\n")
	for i, line := range lines {
		lines[i] = f.from.locate(line)
	}
	return errors.New(strings.Join(lines, "\n"))
}

// resolve gives what was not given the defaults of --dev, with --dev.
func (f *flags) resolve(s *pflag.FlagSet) error {
	if !f.opt.Dev {
		if f.devDir != "" {
			return errors.New("--dev-dir is for --dev: give --data-dir and --socket, or --dev")
		}
		return nil
	}
	dir, err := f.dev()
	if err != nil {
		return err
	}
	dev := daemon.DevOptions(dir)
	for name, value := range map[string]string{
		"data-dir": dev.DataDir, "socket": dev.Socket, "admin-socket": dev.AdminSocket, "expect": strconv.Itoa(dev.Expect),
		"gossip-port": strconv.Itoa(dev.GossipPort), "peer-port": strconv.Itoa(dev.PeerPort),
	} {
		if flag := s.Lookup(name); !flag.Changed || f.clients(name) {
			if err := flag.Value.Set(value); err != nil {
				return err
			}
			f.from[name] = "--dev"
		}
	}
	return nil
}

// clients says that a socket is named by what was exported for the clients of
// another agent: who says where this one is to live has named its sockets.
func (f *flags) clients(name string) bool {
	return (name == "socket" || name == "admin-socket") && f.from[name] == variable(name) && f.from["dev-dir"] == "--dev-dir"
}

func (f *flags) dev() (string, error) {
	if f.devDir != "" {
		return filepath.Abs(f.devDir)
	}
	if state := os.Getenv("XDG_STATE_HOME"); state != "" {
		return filepath.Join(state, "raftlock-dev"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("no home folder (%w): give --dev-dir", err)
	}
	return filepath.Join(home, ".local", "state", "raftlock-dev"), nil
}

func (f *flags) logger(to io.Writer) (*slog.Logger, error) {
	var level slog.Level
	err := level.UnmarshalText([]byte(f.logLevel))
	if err != nil {
		err = fmt.Errorf("--log-level %q: give debug, info, warn or error", f.logLevel)
	}
	o := &slog.HandlerOptions{Level: level}
	switch f.logFormat {
	case formatText:
		return slog.New(telemetry.LogHandler(slog.NewTextHandler(to, o))), err
	case formatJSON:
		return slog.New(telemetry.LogHandler(slog.NewJSONHandler(to, o))), err
	}
	return nil, errors.Join(err, fmt.Errorf("--log-format %q: give text or json", f.logFormat))
}

// next tells who tries it out what to type.
func next(w io.Writer, o daemon.Options) {
	tool := "raftlock"
	if exe, err := os.Executable(); err == nil {
		beside := filepath.Join(filepath.Dir(exe), "raftlock")
		if _, err := os.Stat(beside); err == nil {
			tool = beside
		}
	}
	_, _ = fmt.Fprintf(w, `A RaftLock of one host. Its socket: %s
Its state is kept in %s. In another terminal, type:

  export RAFTLOCK_SOCKET=%s
  export RAFTLOCK_ADMIN_SOCKET=%s
  %s run hello -- sh -c 'echo "holding with token $RAFTLOCK_TOKEN"; %s get hello'

`, o.Socket, o.DataDir, o.Socket, o.AdminSocket, tool, tool)
}
