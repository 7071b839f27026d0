package main

import (
	"runtime/debug"
	"testing"
)

func TestVersion(t *testing.T) {
	commit := []debug.BuildSetting{{Key: "vcs.revision", Value: "abc"}}
	for _, c := range []struct {
		name    string
		release string
		info    *debug.BuildInfo
		want    string
		commit  string
	}{
		{"a release", "1.2", &debug.BuildInfo{Main: debug.Module{Version: "v1"}, Settings: commit}, "1.2", "abc"},
		{"a module", "", &debug.BuildInfo{Main: debug.Module{Version: "v1"}, Settings: commit}, "v1", "abc"},
		{"a commit", "", &debug.BuildInfo{Main: debug.Module{Version: "(devel)"}, Settings: commit}, "abc", "abc"},
		{"neither", "", &debug.BuildInfo{Main: debug.Module{Version: "(devel)"}}, "devel", "unknown commit"},
		{"nothing", "", nil, "devel", "unknown commit"},
	} {
		if v := versionOf(c.release, c.info); v.Version != c.want || v.Commit != c.commit {
			t.Errorf("%s: %+v", c.name, v)
		}
	}
	code, verb, _ := typed("version")
	if coded, flag, _ := typed("--version"); code != 0 || coded != 0 || flag != verb || verb == "" {
		t.Errorf("--version says %q (%d), version %q (%d)", flag, coded, verb, code)
	}
}
