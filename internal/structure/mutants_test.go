package structure

import (
	"go/ast"
	"go/token"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/raftlock/raftlock/internal/mutant"
)

// ruleName is the form of a rule's name: words and hyphens, so that it can be
// typed into an environment variable and a regular expression as it is.
var ruleName = regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)

// A safety rule that can be taken out but is not on the list is guarded by
// nobody; one on the list that no code asks for guards nothing.
func TestRulesAndCodeAgree(t *testing.T) {
	sites := ruleSites(t)
	listed := make(map[string]bool)
	for _, rule := range mutant.Rules {
		if listed[rule.Name] {
			t.Errorf("rule %q is on the list (internal/mutant/list.go) twice", rule.Name)
		}
		listed[rule.Name] = true
		if len(sites[rule.Name]) == 0 {
			t.Errorf("rule %q is on the list (internal/mutant/list.go), but no code asks mutant.On(%q)", rule.Name, rule.Name)
		}
	}
	for name, at := range sites {
		if !listed[name] {
			t.Errorf("%s: rule %q is not on the list: add it to internal/mutant/list.go with the test that notices", at[0], name)
		}
	}
}

func TestRulesAreWellFormed(t *testing.T) {
	tests := testNames(t)
	for _, rule := range mutant.Rules {
		t.Run(rule.Name, func(t *testing.T) {
			if !ruleName.MatchString(rule.Name) {
				t.Errorf("name: want lower case words and hyphens")
			}
			if !strings.Contains(rule.Rule, "design section ") || strings.Contains(rule.Rule, "\n") {
				t.Errorf("rule: want one line that names its design section, have %q", rule.Rule)
			}
			dir, ok := ours(rule.Package)
			if !ok {
				t.Fatalf("package: %q is not an import path of this module", rule.Package)
			}
			// Of a pattern with slashes the first part names the function.
			pattern, err := regexp.Compile(strings.SplitN(rule.Test, "/", 2)[0])
			if err != nil || rule.Test == "" {
				t.Fatalf("test: %q: want a pattern of test names (%v)", rule.Test, err)
			}
			if !slices.ContainsFunc(tests[dir], pattern.MatchString) {
				t.Errorf("test: %s has none that matches %q", rule.Package, rule.Test)
			}
		})
	}
}

// ruleSites finds where production code asks mutant.On, by name of the rule.
func ruleSites(t *testing.T) map[string][]token.Position {
	t.Helper()
	sites := make(map[string][]token.Position)
	for _, f := range mustGoFiles(t) {
		if f.test || !slices.Contains(f.imports(), module+"/"+mutantPackage) {
			continue
		}
		ast.Inspect(f.syntax, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok || len(call.Args) != 1 {
				return true
			}
			if x, name := selector(call.Fun); x != "mutant" || name != "On" {
				return true
			}
			at := fset.Position(call.Pos())
			literal, ok := call.Args[0].(*ast.BasicLit)
			if !ok || literal.Kind != token.STRING {
				t.Errorf("%s: mutant.On wants the rule's name as it is, or nobody finds it", at)
				return true
			}
			name, err := strconv.Unquote(literal.Value)
			if err != nil {
				t.Fatal(err)
			}
			sites[name] = append(sites[name], at)
			return true
		})
	}
	return sites
}

// testNames are the tests of each folder.
func testNames(t *testing.T) map[string][]string {
	t.Helper()
	tests := make(map[string][]string)
	for _, f := range mustGoFiles(t) {
		if !f.test {
			continue
		}
		for _, declaration := range f.syntax.Decls {
			if fn, ok := declaration.(*ast.FuncDecl); ok && fn.Recv == nil && strings.HasPrefix(fn.Name.Name, "Test") {
				tests[f.dir] = append(tests[f.dir], fn.Name.Name)
			}
		}
	}
	return tests
}
