package main

import (
	"testing"

	"github.com/spf13/cobra"

	"github.com/raftlock/raftlock/internal/reference"
)

func TestReferenceIsFresh(t *testing.T) {
	page := reference.Page{
		Intro: "The agent. Each row is a flag, a variable, and without its dashes a key of the YAML file\n" +
			"(but for `--config`, `--dev` and `--dev-dir`). A flag counts more than its variable, and that more than the file.",
		Defaults:          map[string]string{"name": "the host's name"},
		Variable:          variable,
		ExamplesCheckedBy: "TestExamplesAreTaken",
	}
	cmd := bare()
	if err := reference.Fresh("../../docs/reference-sidecar.md", page.Markdown(cmd)); err != nil {
		t.Error(err)
	}
}

// bare is the command on a host that has no settings.
func bare() *cobra.Command {
	return newCommandOf(func(string) (string, bool) { return "", false }, "")
}

// What help shows, the program takes.
func TestExamplesAreTaken(t *testing.T) {
	seen := reference.Examples(t, "raftlock-sidecar", bare)
	if seen < 5 || reference.Taken(bare(), []string{"--frob"}) == nil {
		t.Errorf("%d examples", seen)
	}
}
