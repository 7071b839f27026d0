package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// version is set by release builds (-ldflags -X main.version=...).
var version string

type versionInfo struct {
	Version string `json:"version"`
	Commit  string `json:"commit"`
	Go      string `json:"go"`
}

// String is what people are told. The agent says it in the same form.
func (v versionInfo) String() string {
	return fmt.Sprintf("raftlock %s (%s, %s)", v.Version, v.Commit, v.Go)
}

func newVersion(g *global) *cobra.Command {
	cmd := &cobra.Command{
		Use:               "version",
		Short:             "Print this program's version (the agent's is in status)",
		Example:           "  raftlock version --json",
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			info, _ := debug.ReadBuildInfo()
			v := versionOf(version, info)
			if g.json {
				return printJSON(cmd.OutOrStdout(), v)
			}
			_, err := fmt.Fprintln(cmd.OutOrStdout(), v)
			return err
		},
	}
	cmd.Flags().BoolVar(&g.json, "json", false, "print JSON")
	return cmd
}

// versionOf is the release's, else the module's, else the commit, else "devel".
// cmd/sidecar has the same rule; the two may share no package. info may be nil.
func versionOf(release string, info *debug.BuildInfo) versionInfo {
	v := versionInfo{Version: release, Commit: "unknown commit", Go: runtime.Version()}
	if info == nil {
		info = &debug.BuildInfo{}
	}
	if v.Version == "" && info.Main.Version != "(devel)" {
		v.Version = info.Main.Version
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && s.Value != "" {
			v.Commit = s.Value
			if v.Version == "" {
				v.Version = s.Value
			}
		}
	}
	if v.Version == "" {
		v.Version = "devel"
	}
	return v
}
