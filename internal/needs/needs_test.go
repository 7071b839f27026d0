package needs

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestLackingNamesThePackage(t *testing.T) {
	only := func(there ...string) func(string) (string, error) {
		return func(program string) (string, error) {
			for _, p := range there {
				if p == program {
					return "/usr/bin/" + p, nil
				}
			}
			return "", errors.New("not found")
		}
	}
	for _, c := range []struct {
		name     string
		programs []string
		there    []string
		want     string
	}{
		{"all are there", []string{"ip", "curl"}, []string{"curl", "ip"}, ""},
		{"one is not", []string{"systemd-analyze", "ip"}, []string{"ip"}, "not on this host: systemd-analyze. On Debian: apt-get install systemd"},
		{"two of one package", []string{"unshare", "nsenter", "ip"}, nil, "not on this host: unshare, nsenter, ip. On Debian: apt-get install iproute2 util-linux"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := lacking(c.programs, only(c.there...)); got != c.want {
				t.Errorf("it says %q, want %q", got, c.want)
			}
		})
	}
	for _, program := range append(Systemd, "systemd-analyze", "systemd-socket-activate") {
		if got := lacking([]string{program}, only()); strings.HasSuffix(got, "install ") {
			t.Errorf("it says %q", got)
		}
	}
}

type fakeTest struct{ logged, failed string }

func (f *fakeTest) Helper()                           {}
func (f *fakeTest) Logf(format string, args ...any)   { f.logged = fmt.Sprintf(format, args...) }
func (f *fakeTest) Errorf(format string, args ...any) { f.failed = fmt.Sprintf(format, args...) }

// What takes root is left out where somebody develops, and nowhere else.
func TestRootIsNeededInCI(t *testing.T) {
	for _, c := range []struct {
		uid                 int
		ci                  string
		may, logged, failed bool
	}{
		{0, "", true, false, false},
		{0, "true", true, false, false},
		{1000, "", false, true, false},
		{1000, "false", false, true, false},
		{1000, "true", false, false, true},
		{1000, "1", false, false, true},
	} {
		var f fakeTest
		if got := may(&f, c.uid, c.ci, "nothing is run"); got != c.may || (f.logged != "") != c.logged || (f.failed != "") != c.failed {
			t.Errorf("%+v: %v, %+v", c, got, f)
		}
	}
}
