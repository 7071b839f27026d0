package bootstrap

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// Agents that use one name, in the view of n2 with server id s2.
func TestAgentsOfOneName(t *testing.T) {
	n := func(name, id, cluster string) Member {
		return Member{Name: name, ServerID: id, ClusterID: cluster, Address: "at-" + id}
	}
	self := Member{Name: "n2", ServerID: "s2", Address: "at-n2"}
	for _, c := range []struct {
		name       string
		view       []Member
		candidates string
		clusters   string
	}{
		{"two others", []Member{n("n1", "x", ""), n("n1", "y", ""), self}, "n1/x n2/s2", ""},
		{"the first is of a cluster", []Member{n("n1", "x", "c"), n("n1", "y", ""), self}, "n1/y n2/s2", "c"},
		{"the second is of a cluster", []Member{n("n1", "x", ""), n("n1", "y", "c"), self}, "n1/x n2/s2", "c"},
		{"the own name", []Member{self, n("n2", "x", ""), n("n3", "y", "")}, "n2/s2 n3/y", ""},
		{"the own name, of a cluster", []Member{self, n("n2", "x", "c")}, "n2/s2", "c"},
		{"a former life of its own", []Member{{Name: "n2", ServerID: "x", ClusterID: "c", Address: "at-n2"}}, "n2/s2", ""},
		{"before it published", []Member{{Name: "n2", Address: "at-n2"}}, "n2/s2", ""},
		{"a copied id under the own name", []Member{self, n("n2", "x", ""), n("n3", "x", "")}, "n2/s2", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMemory()
			m.view = c.view
			v := mustNew(t, m.config()).sight()
			var got []string
			for _, p := range v.candidates {
				got = append(got, p.Name+"/"+p.ServerID)
			}
			if s := strings.Join(got, " "); s != c.candidates {
				t.Errorf("candidates %s, want %s", s, c.candidates)
			}
			if s := strings.Join(v.clusters, " "); s != c.clusters {
				t.Errorf("clusters %q, want %q", s, c.clusters)
			}
		})
	}
}

// An agent never stands with two of one name, nor counts one of its own name as
// another, nor founds beside a cluster of one of its own name.
func TestNoListHasANameTwice(t *testing.T) {
	twin := Member{Name: "n2", ServerID: "x", Address: "at-x"}
	third := Member{Name: "n3", ServerID: "s3", Address: "at-s3"}
	clone := Member{Name: "n3", ServerID: "y", Address: "at-y"}
	of := twin
	of.ClusterID = "c"
	for _, c := range []struct {
		name   string
		expect int
		others []Member
		want   string
	}{
		{"two of its name", 3, []Member{twin, third}, "[]"},
		{"two of another's", 3, []Member{third, clone}, "[]"},
		{"one of its name has a cluster", 1, []Member{of}, "[]"},
		{"one of its name has none", 1, []Member{twin}, "[n2]"},
		{"enough without", 3, []Member{twin, third, clone, {Name: "n4", ServerID: "s4", Address: "at-s4"}}, "[n2 n3 n4]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := newMemory()
				cfg := m.config()
				cfg.Expect = c.expect
				m.view = append([]Member{{Name: "n2", ServerID: "s2", Address: "at-n2"}}, c.others...)
				b := mustNew(t, cfg)
				ctx, cancel := context.WithTimeout(t.Context(), 8*time.Second)
				defer cancel()
				_, _ = b.Run(ctx)
				rec, _ := b.current()
				var list []string
				if rec.Own != nil {
					list = names(rec.Own.Members)
				}
				if got := fmt.Sprint(list); got != c.want {
					t.Errorf("stands with %s, want %s", got, c.want)
				}
			})
		})
	}
}
