//go:build mutants

package mutant

import "os"

var name = os.Getenv("RAFTLOCK_MUTANT")

// On reports whether the named rule is taken out of this process.
func On(rule string) bool { return rule == name }
