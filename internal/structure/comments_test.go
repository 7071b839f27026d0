package structure

import (
	"maps"
	"slices"
	"strings"
	"testing"
)

func TestEveryPackageHasOneComment(t *testing.T) {
	commented := make(map[string][]string)
	for _, f := range mustGoFiles(t) {
		if f.test {
			continue
		}
		if _, ok := commented[f.dir]; !ok {
			commented[f.dir] = nil
		}
		if strings.TrimSpace(f.syntax.Doc.Text()) != "" {
			commented[f.dir] = append(commented[f.dir], f.path)
		}
	}
	for _, dir := range slices.Sorted(maps.Keys(commented)) {
		switch found := commented[dir]; len(found) {
		case 1:
		case 0:
			t.Errorf("package %s has no package comment: say why it exists, what it promises and does not promise", dir)
		default:
			t.Errorf("package %s has its comment in several files, which readers see run together: %v", dir, found)
		}
	}
}
