package structure

import (
	"go/ast"
	"slices"
	"testing"
)

// pure are the packages that compute and do nothing else.
var pure = []string{"fsm/...", "lease/..."}

// Clocks are handed in (design section 5): a virtual cluster gives each host
// its own.
func TestCoreReadsNoClock(t *testing.T) {
	clock := []string{"After", "AfterFunc", "NewTicker", "NewTimer", "Now", "Since", "Sleep", "Tick", "Until"}
	inspectCore(t, func(n ast.Node) {
		if x, name := selector(n); x == "time" && slices.Contains(clock, name) {
			t.Errorf("%s uses time.%s: its clock is handed in", fset.Position(n.Pos()), name)
		}
	})
}

// A goroutine of the state machine could make two replicas differ; one of the
// leases would have nobody to wait for it.
func TestCoreStartsNoGoroutine(t *testing.T) {
	inspectCore(t, func(n ast.Node) {
		if _, ok := n.(*ast.GoStmt); ok {
			t.Errorf("%s starts a goroutine: the core runs on its caller's", fset.Position(n.Pos()))
		}
	})
}

// inspectCore calls look for every node of the core's own code.
func inspectCore(t *testing.T, look func(ast.Node)) {
	t.Helper()
	for _, f := range mustGoFiles(t) {
		if f.test || f.generated || !matchesAny(f.dir, pure) {
			continue
		}
		ast.Inspect(f.syntax, func(n ast.Node) bool {
			if n != nil {
				look(n)
			}
			return true
		})
	}
}

// selector takes "x.name" apart, for an x that is one word.
func selector(n ast.Node) (x, name string) {
	s, ok := n.(*ast.SelectorExpr)
	if !ok {
		return "", ""
	}
	id, ok := s.X.(*ast.Ident)
	if !ok {
		return "", ""
	}
	return id.Name, s.Sel.Name
}
