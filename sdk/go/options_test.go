package raftlock

import (
	"os"
	"path/filepath"
	"testing"
)

func TestSocketIsLookedFor(t *testing.T) {
	t.Setenv("RAFTLOCK_SOCKET", "/named")
	if got := Socket(); got != "/named" {
		t.Errorf("named by the variable: %s", got)
	}
	dir := t.TempDir()
	host, pod := filepath.Join(dir, "host"), filepath.Join(dir, "pod")
	for _, c := range []struct {
		name, make, want string
	}{
		{"neither is there", "", host},
		{"the pod's", pod, pod},
		{"both", host, host},
	} {
		if c.make != "" {
			if err := os.WriteFile(c.make, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if got := firstThere(host, pod); got != c.want {
			t.Errorf("%s: %s, not %s", c.name, got, c.want)
		}
	}
}
