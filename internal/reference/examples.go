package reference

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// Calls types an example into a shell in which the program only notes its
// arguments, and no other program can be found. It returns the arguments of each
// call. dir is for its notes.
func Calls(dir, program, example string) (calls [][]string, err error) {
	notes := filepath.Join(dir, "notes")
	cmd := exec.Command("/bin/bash", "-c", program+` () { printf '%s\0' "$@" $'\n' >> "$NOTES"; echo 7; }`+"\n"+example)
	cmd.Env = []string{"PATH=/nonexistent", "NOTES=" + notes, "BUILD=7", "token=7"}
	// What is not there fails, as it should.
	_ = cmd.Run()
	text, err := os.ReadFile(notes)
	if err != nil {
		return nil, fmt.Errorf("%q calls nothing: %w", example, err)
	}
	for call := range bytes.SplitSeq(bytes.TrimSuffix(text, []byte("\n\x00")), []byte("\n\x00")) {
		calls = append(calls, strings.Split(strings.TrimSuffix(string(call), "\x00"), "\x00"))
	}
	return calls, os.Remove(notes)
}

// Examples types the examples of a program and all its verbs, and complains of
// each call that it would refuse. It returns how many there were. root makes the
// command line anew, since a call uses it up.
func Examples(t testing.TB, program string, root func() *cobra.Command) (seen int) {
	t.Helper()
	var walk func(*cobra.Command)
	walk = func(cmd *cobra.Command) {
		if cmd.Example != "" {
			calls, err := Calls(t.TempDir(), program, cmd.Example)
			if err != nil {
				t.Error(err)
			}
			for _, args := range calls {
				seen++
				if err := Taken(root(), args); err != nil {
					t.Errorf("%s %q: %v", program, args, err)
				}
			}
		}
		for _, below := range cmd.Commands() {
			walk(below)
		}
	}
	walk(root())
	return seen
}

// Taken says why a program with that command line would refuse these arguments
// as they are, and does nothing. root is used up.
func Taken(root *cobra.Command, args []string) error {
	cmd, rest, err := root.Find(args)
	if err != nil {
		return err
	}
	if err := cmd.ParseFlags(rest); err != nil {
		return err
	}
	if !cmd.Runnable() {
		return errors.New("this verb does nothing by itself")
	}
	for _, err := range []error{cmd.ValidateArgs(cmd.Flags().Args()), cmd.ValidateRequiredFlags(), cmd.ValidateFlagGroups()} {
		if err != nil {
			return err
		}
	}
	return nil
}
