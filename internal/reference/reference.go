// Package reference writes the reference page of a command from the command
// itself, so that the page cannot say anything else than --help. It exists for
// the tests of cmd/raftlock and cmd/sidecar, which fail when a page in docs/ is
// not what would be written now; "make generate" has them write it.
//
// It promises the same text for the same commands and flags. It does not check
// that what they say is true. It owns no goroutine.
package reference

import (
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// UpdateEnv is the variable that has Fresh write the page.
const UpdateEnv = "RAFTLOCK_UPDATE_REFERENCE"

// Page says what is particular about a page.
type Page struct {
	// Intro comes after the title.
	Intro string
	// Defaults replace defaults that differ from host to host, by flag.
	Defaults map[string]string
	// Variable names a flag's environment variable; nil: they have none.
	Variable func(flag string) string
	// ExamplesCheckedBy is the test that looks at the examples without running them.
	ExamplesCheckedBy string
}

// Fresh compares the page at path with what it has to be. Errors end with what
// to do.
func Fresh(path, want string) error {
	if os.Getenv(UpdateEnv) != "" {
		return os.WriteFile(path, []byte(want), 0o644)
	}
	got, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("%w; make generate writes it", err)
	}
	if string(got) != want {
		return fmt.Errorf("%s is stale: make generate", path)
	}
	return nil
}

// Markdown writes the page of root and all its verbs.
func (p Page) Markdown(root *cobra.Command) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# %s\n\n<!-- written by make generate from the program's own help -->\n\n%s\n\n", root.Name(), strings.TrimSpace(p.Intro))
	p.verb(&b, root)
	return strings.TrimRight(b.String(), "\n") + "\n"
}

func (p Page) verb(b *strings.Builder, cmd *cobra.Command) {
	if cmd.HasParent() {
		fmt.Fprintf(b, "## %s\n\n", cmd.CommandPath())
		if !strings.HasPrefix(cmd.Long, cmd.Short) {
			fmt.Fprintf(b, "%s.\n\n", cmd.Short)
		}
	}
	prose(b, cmd.Long)
	if cmd.Runnable() && cmd.HasParent() {
		fmt.Fprintf(b, "Usage: `%s`\n\n", cmd.UseLine())
	}
	if cmd.Example != "" {
		fmt.Fprintf(b, "<!-- checked by: %s -->\n```sh\n%s\n```\n\n", p.ExamplesCheckedBy, unindented(cmd.Example))
	}
	p.flags(b, cmd)
	for _, below := range cmd.Commands() {
		if !below.Hidden && below.Name() != "help" && below.Name() != "completion" {
			p.verb(b, below)
		}
	}
}

// prose writes what help says. Lines that begin with blanks are a list or a
// table there, and keep their form.
func prose(b *strings.Builder, text string) {
	listing := false
	for line := range strings.SplitSeq(strings.TrimSpace(text)+"\n", "\n") {
		indented := strings.HasPrefix(line, "  ")
		switch {
		case indented && !listing:
			b.WriteString("\n```text\n")
		case !indented && listing:
			b.WriteString("```\n")
		}
		if listing = indented; !indented {
			line = strings.NewReplacer("<", "&lt;", "*", `\*`).Replace(line)
		}
		b.WriteString(line + "\n")
	}
}

func unindented(text string) string {
	lines := strings.Split(strings.Trim(text, "\n"), "\n")
	for i := range lines {
		lines[i] = strings.TrimPrefix(lines[i], "  ")
	}
	return strings.Join(lines, "\n")
}

func (p Page) flags(b *strings.Builder, cmd *cobra.Command) {
	var rows []string
	cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden && f.Name != "help" && f.Name != "version" {
			rows = append(rows, p.row(f))
		}
	})
	if len(rows) == 0 {
		return
	}
	head, rule := "| flag | default | what it says |", "| --- | --- | --- |"
	if p.Variable != nil {
		head, rule = "| flag | variable | default | what it says |", "| --- | --- | --- | --- |"
	}
	fmt.Fprintf(b, "%s\n%s\n%s\n\n", head, rule, strings.Join(rows, "\n"))
}

func (p Page) row(f *pflag.Flag) string {
	kind, usage := pflag.UnquoteUsage(f)
	cells := []string{"`--" + strings.TrimSpace(f.Name+" "+kind) + "`"}
	if p.Variable != nil {
		cells = append(cells, "`"+p.Variable(f.Name)+"`")
	}
	standard, other := p.Defaults[f.Name]
	if !other {
		switch standard = f.DefValue; standard {
		case "", "[]", "0", "0s", "false":
			standard = ""
		default:
			standard = "`" + standard + "`"
		}
	}
	cells = append(cells, standard, usage)
	for i := range cells {
		cells[i] = strings.ReplaceAll(strings.ReplaceAll(cells[i], "|", `\|`), "\n", " ")
	}
	return strings.ReplaceAll("| "+strings.Join(cells, " | ")+" |", "|  |", "| |")
}
