package structure

import (
	"go/ast"
	"strings"
	"testing"
)

// A test that is skipped where CI runs it tells nothing, and looks like one that
// passed.
func TestNoTestIsSkipped(t *testing.T) {
	for _, f := range mustGoFiles(t) {
		if !f.test {
			continue
		}
		ast.Inspect(f.syntax, func(n ast.Node) bool {
			s, ok := n.(*ast.SelectorExpr)
			if ok && (strings.HasPrefix(s.Sel.Name, "Skip") && s.Sel.Name != "SkipDir" && s.Sel.Name != "SkipAll") {
				if x, ok := s.X.(*ast.Ident); ok && (x.Name == "t" || x.Name == "b" || x.Name == "f") {
					t.Errorf("%s: %s.%s: narrow what is tested, or make what it needs", fset.Position(s.Pos()), x.Name, s.Sel.Name)
				}
			}
			return true
		})
	}
}
