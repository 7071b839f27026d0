package reference

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

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
