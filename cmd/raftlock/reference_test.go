package main

import (
	"testing"

	"github.com/raftlock/raftlock/internal/reference"
)

func TestReferenceIsFresh(t *testing.T) {
	t.Setenv("RAFTLOCK_SOCKET", "")
	t.Setenv("RAFTLOCK_ADMIN_SOCKET", "")
	page := reference.Page{
		Intro:             "The command-line tool. This is what `raftlock help VERB` says.",
		ExamplesCheckedBy: "TestExamplesAreTaken",
	}
	if err := reference.Fresh("../../docs/reference-cli.md", page.Markdown(newRoot())); err != nil {
		t.Error(err)
	}
}

// What help shows, the program takes.
func TestExamplesAreTaken(t *testing.T) {
	seen := reference.Examples(t, "raftlock", newRoot)
	if seen < 25 {
		t.Errorf("only %d examples", seen)
	}
	for _, args := range [][]string{{"get", "a", "--frob"}, {"get"}, {"frob"}, {"acquire", "a"}, {}} {
		if reference.Taken(newRoot(), args) == nil {
			t.Errorf("%q is taken", args)
		}
	}
}
