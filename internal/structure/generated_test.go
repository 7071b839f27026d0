package structure

import (
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// service finds a service in a .proto, which gets a file of its own in Go.
var service = regexp.MustCompile(`(?m)^service\s`)

// Whether generated code is fresh is for "make verify" to say, which runs the
// generators; here: that it is there, and is theirs.
func TestGeneratedFilesHaveTheirSource(t *testing.T) {
	wanted := make(map[string]string) // Go file -> .proto
	for _, file := range mustFiles(t) {
		if path.Ext(file) != ".proto" || ignoredByGo(file) {
			continue
		}
		text, err := os.ReadFile(filepath.Join(root, file))
		if err != nil {
			t.Fatal(err)
		}
		stem := strings.TrimSuffix(file, ".proto")
		wanted[stem+".pb.go"] = file
		if service.Match(text) {
			wanted[stem+"_grpc.pb.go"] = file
		}
	}
	for _, f := range mustGoFiles(t) {
		source, ok := wanted[f.path]
		isProto := strings.HasSuffix(f.path, ".pb.go")
		switch {
		case ok && !f.generated:
			t.Errorf("%s lacks the generator's header: it is made from %s, by make generate", f.path, source)
		case ok && !names(f, source):
			t.Errorf("%s does not name %s as its source: make generate", f.path, source)
		case !ok && isProto:
			t.Errorf("%s has no .proto that it is made from", f.path)
		}
		delete(wanted, f.path)
	}
	for file, source := range wanted {
		t.Errorf("%s has no %s: make generate", source, file)
	}
}

// names reports whether the generated file's header names its source.
func names(f *goFile, source string) bool {
	return slices.ContainsFunc(strings.Split(header(f), "\n"), func(line string) bool {
		return strings.TrimSpace(line) == "// source: "+source
	})
}

// header is all comment text before the package clause.
func header(f *goFile) string {
	var text strings.Builder
	for _, group := range f.syntax.Comments {
		if group.Pos() > f.syntax.Package {
			break
		}
		for _, comment := range group.List {
			text.WriteString(comment.Text)
			text.WriteByte('\n')
		}
	}
	return text.String()
}
