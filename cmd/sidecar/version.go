package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// version is set by release builds (-ldflags -X main.version=...).
var version string

func newVersion() *cobra.Command {
	return &cobra.Command{
		Use:               "version",
		Short:             "Print this program's version",
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if _, err := fmt.Fprintln(cmd.OutOrStdout(), versionText()); err != nil {
				return failure{err}
			}
			return nil
		},
	}
}

// versionText is what people are told, in the form of cmd/raftlock's.
func versionText() string {
	v, commit := thisVersion()
	return fmt.Sprintf("raftlock-sidecar %s (%s, %s)", v, commit, runtime.Version())
}

func thisVersion() (v, commit string) {
	info, _ := debug.ReadBuildInfo()
	return versionOf(version, info)
}

// versionOf is the release's, else the module's, else the commit, else "devel".
// cmd/raftlock has the same rule; the two may share no package. info may be nil.
func versionOf(release string, info *debug.BuildInfo) (v, commit string) {
	v, commit = release, "unknown commit"
	if info == nil {
		info = &debug.BuildInfo{}
	}
	if v == "" && info.Main.Version != "(devel)" {
		v = info.Main.Version
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && s.Value != "" {
			commit = s.Value
			if v == "" {
				v = s.Value
			}
		}
	}
	if v == "" {
		v = "devel"
	}
	return v, commit
}
