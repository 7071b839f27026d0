package consensus

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// A peer that is down is told of once a minute, by a line that says how often
// it was left out, and as what mends itself. Elections are always told.
func TestPeerThatIsDownFillsNoLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		l := newHCLog(slog.New(slog.NewTextHandler(&out, nil)))
		named := l.Named("raft").With("x", 1) // all names share one count
		refused := errors.New("refused")
		fail := func(l hclog.Logger) {
			l.Error("failed to heartbeat to", "peer", raft.ServerAddress("h:1"), "backoff time", time.Second, "error", refused)
			l.Error("failed to appendEntries to", "peer", raft.Server{ID: "s1", Address: "h:1"}, "error", refused)
			l.Error("failed to appendEntries to", "peer", raft.Server{ID: "s2", Address: "h:2"}, "error", refused)
			l.Error("failed to make requestVote RPC", "target", raft.Server{ID: "s1", Address: "h:1"}, "error", refused, "term", uint64(7))
			l.Warn("Election timeout reached, restarting election")
			l.Info("entering candidate state", "term", 7)
			l.Error("failed to install snapshot", "error", refused) // this server's own: it has a bad disk
		}
		for range 10 {
			fail(l)
			fail(named)
			time.Sleep(time.Second)
		}
		for want, n := range map[string]int{
			"failed to heartbeat to": 1, "failed to appendEntries to": 2, "failed to make requestVote RPC": 1, "restarting election": 20,
			"entering candidate": 20, "failed to install snapshot": 20, "level=ERROR": 20, "untold": 0,
		} {
			if got := strings.Count(out.String(), want); got != n {
				t.Errorf("%d lines with %q, not %d", got, want, n)
			}
		}
		out.Reset()
		time.Sleep(repeatsEvery)
		fail(named)
		for _, want := range []string{
			"level=WARN msg=\"failed to heartbeat to\" x=1 address=h:1 \"backoff time\"=1s error=refused untold=19",
			"node=s1 error=refused untold=19", "node=s2 error=refused untold=19", "node=s1 error=refused term=7 untold=19",
		} {
			if !strings.Contains(out.String(), want) {
				t.Errorf("%q is not in\n%s", want, out.String())
			}
		}
	})
}

func TestRepeatsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, told := newRepeats(), 0
		for i := range 4 * repeatsMax {
			if _, ok := r.take(repeat{"m", fmt.Sprint(i)}); ok {
				told++
			}
		}
		if len(r.told) > repeatsMax+1 || told != repeatsMax+1 {
			t.Errorf("%d kept, %d told", len(r.told), told)
		}
		time.Sleep(repeatsEvery)
		if _, ok := r.take(repeat{"m", "new"}); !ok || len(r.told) != 1 {
			t.Errorf("%v, %d kept: what is over takes no place", ok, len(r.told))
		}
	})
}

// What raft's values are called here, and how they read as JSON.
func TestRaftsValuesAreInWords(t *testing.T) {
	var out bytes.Buffer
	l := newHCLog(slog.New(slog.NewJSONHandler(&out, nil)))
	l.Info("all", "node", &raft.Raft{}, "raft-state", raft.Leader, "from", raft.ServerAddress("h:1"), "backoff", time.Second, "error", errors.New("bad"))
	l.Info("indices", "from", uint64(3), "to", uint64(5))
	l.Info("vote", "from", raft.ServerID("s1"), "peer", raft.ServerAddress("h:2"))
	l.Info("odd", "peer", raft.ServerID("s3"), "alone")
	for _, want := range []string{
		`"self":"Node at  [Follower]"`, `"state":"Leader"`, `"address":"h:1"`, `"backoff":1000000000`, `"error":"bad"`,
		`"from":3,"to":5`, `"node":"s1"`, `"address":"h:2"`, `"node":"s3"`,
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%s is not in\n%s", want, out.String())
		}
	}
}
