package structure

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// A path of somebody's machine in the tree means that something works there
// only. The words are put together here so that this file does not match.
func TestNoFileNamesAWorkplace(t *testing.T) {
	banned := []string{"/wo" + "rk/", "/ro" + "ot/go", "/tmp/ba" + "sh_jobs"}
	for _, file := range mustFiles(t) {
		text, err := os.ReadFile(filepath.Join(root, file))
		if os.IsNotExist(err) {
			continue // made and removed by another test meanwhile
		}
		if err != nil {
			t.Fatal(err)
		}
		for number, line := range bytes.Split(text, []byte("\n")) {
			for _, word := range banned {
				if bytes.Contains(line, []byte(word)) {
					t.Errorf("%s:%d names a path of one machine: %s", file, number+1, word)
				}
			}
		}
	}
}
