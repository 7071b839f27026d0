package structure

import (
	"bytes"
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// module is the path of the module under test.
const module = "github.com/raftlock/raftlock"

// root is the module's directory as seen from this package's tests.
const root = "../.."

// A goFile is one parsed source file. Its path and dir are relative to the
// root and use slashes; the dir of the root package is ".".
type goFile struct {
	path, dir string
	test      bool
	generated bool
	syntax    *ast.File
}

// imports are the paths that the file imports, whole.
func (f *goFile) imports() []string {
	var all []string
	for _, spec := range f.syntax.Imports {
		if p, err := strconv.Unquote(spec.Path.Value); err == nil {
			all = append(all, p)
		}
	}
	return all
}

// files lists every file of the tree that could be committed, as slash paths
// relative to the root: not what .gitignore names.
var files = sync.OnceValues(func() ([]string, error) {
	var all []string
	err := filepath.WalkDir(root, func(p string, entry fs.DirEntry, err error) error {
		if err != nil {
			// Other tests of the tree may make and remove files meanwhile.
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			return err
		}
		rel, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		rel = filepath.ToSlash(rel)
		if entry.IsDir() {
			if slices.Contains([]string{".git", ".bin", ".cache", "bin", "dist"}, rel) {
				return fs.SkipDir
			}
			// What Python's tools leave in any folder.
			if slices.Contains([]string{"__pycache__", ".venv", ".mypy_cache", ".pytest_cache", ".ruff_cache"}, entry.Name()) {
				return fs.SkipDir
			}
			return nil
		}
		if ext := path.Ext(rel); entry.Type().IsRegular() && ext != ".test" && ext != ".out" {
			all = append(all, rel)
		}
		return nil
	})
	return all, err
})

var fset = token.NewFileSet()

// goFiles parses the Go files of this module, with any build tags: nested
// modules, testdata and folders that Go ignores are left out.
var goFiles = sync.OnceValues(func() ([]*goFile, error) {
	all, err := files()
	if err != nil {
		return nil, err
	}
	var nested []string
	for _, file := range all {
		if dir, ok := strings.CutSuffix(file, "/go.mod"); ok {
			nested = append(nested, dir)
		}
	}
	var parsed []*goFile
	for _, file := range all {
		dir := path.Dir(file)
		if path.Ext(file) != ".go" || ignoredByGo(file) || slices.ContainsFunc(nested, func(n string) bool { return within(dir, n) }) {
			continue
		}
		syntax, err := parser.ParseFile(fset, filepath.Join(root, file), nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		parsed = append(parsed, &goFile{
			path: file, dir: dir, syntax: syntax,
			test:      strings.HasSuffix(file, "_test.go"),
			generated: ast.IsGenerated(syntax),
		})
	}
	return parsed, nil
})

// ignoredByGo reports whether the go command leaves the file out of "./...".
func ignoredByGo(file string) bool {
	for part := range strings.SplitSeq(file, "/") {
		if part == "testdata" || part == "vendor" || part[0] == '.' || part[0] == '_' {
			return true
		}
	}
	return false
}

// within reports whether dir is top or below it.
func within(dir, top string) bool {
	return dir == top || strings.HasPrefix(dir, top+"/")
}

// matches reports whether dir fits the pattern: a folder, or with "/..." a
// folder and all below it, or "..." for all.
func matches(dir, pattern string) bool {
	if pattern == "..." {
		return true
	}
	if top, ok := strings.CutSuffix(pattern, "/..."); ok {
		return within(dir, top)
	}
	return dir == pattern
}

func matchesAny(dir string, patterns []string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return matches(dir, p) })
}

// ours gives the folder of an import path of this module.
func ours(importPath string) (dir string, ok bool) {
	return strings.CutPrefix(importPath, module+"/")
}

func mustFiles(t *testing.T) []string {
	t.Helper()
	all, err := files()
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func mustGoFiles(t *testing.T) []*goFile {
	t.Helper()
	all, err := goFiles()
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 10 {
		t.Fatalf("only %d Go files found: is %q still the root?", len(all), root)
	}
	return all
}

// dependencies maps each folder of an ordinary build to all that its package
// imports, directly or not.
func dependencies(t *testing.T) map[string][]string {
	t.Helper()
	cmd := exec.Command("go", "list", "-e", "-json=ImportPath,Deps", "./...")
	cmd.Dir = root
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	deps := make(map[string][]string)
	for decoder := json.NewDecoder(bytes.NewReader(out)); ; {
		var p struct {
			ImportPath string
			Deps       []string
		}
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			return deps
		} else if err != nil {
			t.Fatalf("go list: %v", err)
		}
		if dir, ok := ours(p.ImportPath); ok {
			deps[dir] = p.Deps
		}
	}
}
