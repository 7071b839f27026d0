package structure

import "testing"

// The rules are only as good as what they are made of.
func TestMatches(t *testing.T) {
	for _, c := range []struct {
		name, dir, pattern string
		want               bool
	}{
		{"itself", "fsm", "fsm", true},
		{"a folder below is another package", "fsm/command", "fsm", false},
		{"itself, with all below", "fsm", "fsm/...", true},
		{"a folder below, with all below", "fsm/command", "fsm/...", true},
		{"a longer name is another folder", "fsmtest", "fsm/...", false},
		{"everything", "sdk/go", "...", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := matches(c.dir, c.pattern); got != c.want {
				t.Errorf("matches(%q, %q) = %v", c.dir, c.pattern, got)
			}
		})
	}
}

func TestFits(t *testing.T) {
	for _, c := range []struct {
		name, dep, banned string
		want              bool
	}{
		{"itself", "net", "net", true},
		{"the standard library is exact", "net/netip", "net", false},
		{"a module's root", "github.com/hashicorp/raft", "github.com/hashicorp/raft", true},
		{"within a module", "google.golang.org/grpc/codes", "google.golang.org/grpc", true},
		{"another module", "github.com/hashicorp/raft-boltdb/v2", "github.com/hashicorp/raft", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := fits(c.dep, c.banned); got != c.want {
				t.Errorf("fits(%q, %q) = %v", c.dep, c.banned, got)
			}
		})
	}
}

func TestRowsNameTheirReason(t *testing.T) {
	for _, r := range table {
		if r.why == "" || len(r.packages) == 0 {
			t.Errorf("row %v says no reason", r.packages)
		}
	}
}
