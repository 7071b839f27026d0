package fsm

import (
	"go/parser"
	"go/token"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestImports: no time, no chance, no network, no goroutines' tools.
func TestImports(t *testing.T) {
	allowed := []string{
		"bufio", "bytes", "crypto/sha256", "crypto/subtle", "encoding/binary", "errors", "fmt", "io", "slices", "sort", "strings", "unicode/utf8",
		"github.com/tidwall/btree", "google.golang.org/protobuf/proto",
		"github.com/raftlock/raftlock/fsm/command", "github.com/raftlock/raftlock/internal/mutant",
	}
	files, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if !strings.HasSuffix(f.Name(), ".go") || strings.HasSuffix(f.Name(), "_test.go") {
			continue
		}
		src, err := parser.ParseFile(token.NewFileSet(), f.Name(), nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range src.Imports {
			path, err := strconv.Unquote(i.Path.Value)
			if err != nil || !slices.Contains(allowed, path) {
				t.Errorf("%s imports %s", f.Name(), i.Path.Value)
			}
		}
	}
}
