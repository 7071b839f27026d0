package raftlock

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestEveryDutyHasItsTest walks the table that all SDKs share.
func TestEveryDutyHasItsTest(t *testing.T) {
	table, err := os.ReadFile("../DUTIES.md")
	if err != nil {
		t.Fatal(err)
	}
	var tests strings.Builder
	files, _ := filepath.Glob("*_test.go")
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		tests.Write(text)
	}
	named := regexp.MustCompile("`(Test[A-Za-z]+)`")
	duties := 0
	for line := range strings.Lines(string(table)) {
		if !strings.HasPrefix(line, "| ") || strings.HasPrefix(line, "| duty") || strings.HasPrefix(line, "| ---") {
			continue
		}
		duties++
		found := named.FindAllStringSubmatch(line, -1)
		if len(found) == 0 {
			t.Errorf("no test: %s", line)
		}
		for _, f := range found {
			if !strings.Contains(tests.String(), "\nfunc "+f[1]+"(") {
				t.Errorf("no %s for: %s", f[1], line)
			}
		}
	}
	if duties < 30 {
		t.Errorf("%d duties", duties)
	}
}
