package main

import (
	"context"
	"net"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	raftlock "github.com/raftlock/raftlock/sdk/go"
)

const (
	// completionMax bounds what a shell waits for while a person presses Tab.
	completionMax = 500 * time.Millisecond
	// completionsMax is as many names as a person may want to see.
	completionsMax = 200
)

// lockNames offers names of locks that the agent knows of. Without an agent, or
// in its bad hour, it offers nothing and says nothing.
func (g *global) lockNames(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	const directive = cobra.ShellCompDirectiveNoFileComp
	if len(args) > 0 {
		return nil, directive
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), completionMax)
	defer cancel()
	// The client would wait for an agent until the time is over.
	conn, err := new(net.Dialer).DialContext(ctx, "unix", g.socket)
	if err != nil {
		return nil, directive
	}
	_ = conn.Close()
	client, err := raftlock.Dial(ctx, raftlock.WithSocket(g.socket))
	if err != nil {
		return nil, directive
	}
	defer client.Close()
	var names []string
	// What a replica last knew is good enough, and works without a quorum.
	for l, err := range client.Locks(ctx, raftlock.Filter{Prefix: typed, Limit: completionsMax}, raftlock.Stale()) {
		if err != nil || len(names) == completionsMax {
			break
		}
		names = append(names, plain(l.Name))
	}
	return names, directive
}

// files are the flags whose values are paths; of all others that have no words
// of their own nothing is offered.
var files = map[string]cobra.ShellCompDirective{
	"socket":       cobra.ShellCompDirectiveDefault,
	"admin-socket": cobra.ShellCompDirectiveDefault,
	"sidecar":      cobra.ShellCompDirectiveDefault,
	"dir":          cobra.ShellCompDirectiveFilterDirs,
}

// words are the flags that have few values.
var words = map[string][]string{
	"voters": {"1", "3", "5"},
}

// completeFlags says what may follow each flag of cmd and of all below it.
func completeFlags(cmd *cobra.Command) {
	complete := func(f *pflag.Flag) {
		directive, ok := files[f.Name]
		if !ok {
			directive = cobra.ShellCompDirectiveNoFileComp
		}
		// It fails only for a flag that does not exist.
		_ = cmd.RegisterFlagCompletionFunc(f.Name, cobra.FixedCompletions(words[f.Name], directive))
	}
	cmd.LocalFlags().VisitAll(complete)
	for _, below := range cmd.Commands() {
		completeFlags(below)
	}
}
