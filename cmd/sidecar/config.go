package main

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"
)

// newConfig makes the verbs that look at settings and start nothing.
func newConfig(f *flags, prepare func(*cobra.Command) (path string, err error)) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Check or show the settings, and start nothing",
		Long: `Check or show the settings, and start nothing. They are what the agent would
start with, given the same flags, variables and file.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	check := &cobra.Command{
		Use:               "check [flags]",
		Short:             "Say what is wrong with the settings: status 64, one problem a line",
		Example:           "  raftlock-sidecar config check --config ./sidecar.yaml",
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			path, err := prepare(cmd)
			if err != nil {
				return err
			}
			_, err = f.logger(cmd.ErrOrStderr())
			if err := errors.Join(err, f.validate()); err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: ok\n", cmp.Or(path, "no file was read; flags and variables"))
			return failed(err)
		},
	}
	show := &cobra.Command{
		Use:   "show [flags]",
		Short: "Print all settings and where each is from, as a file for --config",
		Example: `  raftlock-sidecar config show
  RAFTLOCK_EXPECT=3 raftlock-sidecar config show --config ./sidecar.yaml`,
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			path, err := prepare(cmd)
			if err != nil {
				return err
			}
			text, err := yaml.Marshal(describe(cmd.Flags(), path, f.from))
			if err == nil {
				_, err = cmd.OutOrStdout().Write(text)
			}
			return failed(err)
		},
	}
	cmd.AddCommand(check, show)
	return cmd
}

// describe writes the settings down, each with its origin beside it.
func describe(s *pflag.FlagSet, path string, from origins) *yaml.Node {
	doc := &yaml.Node{Kind: yaml.MappingNode, HeadComment: "file read: " + cmp.Or(path, "none")}
	s.VisitAll(func(f *pflag.Flag) {
		if slices.Contains(notInFile, f.Name) {
			return
		}
		value := valueOf(f)
		value.LineComment = cmp.Or(from[f.Name], "default")
		doc.Content = append(doc.Content, text(f.Name), value)
	})
	return doc
}

func valueOf(f *pflag.Flag) *yaml.Node {
	if list, ok := f.Value.(pflag.SliceValue); ok {
		value := &yaml.Node{Kind: yaml.SequenceNode, Style: yaml.FlowStyle}
		for _, word := range list.GetSlice() {
			value.Content = append(value.Content, text(word))
		}
		return value
	}
	if tag := kindOf(f.Value.Type()).tags[0]; tag != "!!str" {
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: tag, Value: f.Value.String()}
	}
	return text(f.Value.String())
}

func text(s string) *yaml.Node {
	n := &yaml.Node{}
	n.SetString(s)
	return n
}
