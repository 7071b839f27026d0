package agent

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"

	"github.com/raftlock/raftlock/agent/session"
	"github.com/raftlock/raftlock/consensus"
	"github.com/raftlock/raftlock/telemetry"
)

// What the holder's side says is what the table of metrics has: a word that it
// has not is not counted at all.
func TestMeasuredWordsAreInTheTable(t *testing.T) {
	values := make(map[string][]string)
	for _, m := range telemetry.Table() {
		for _, l := range m.Labels {
			values[m.Name] = l.Values
		}
	}
	outcomes := []string{
		session.OutcomeGranted, session.OutcomeHeld, session.OutcomeCancelled, session.OutcomeRefused,
		session.OutcomeEnded, session.OutcomeError,
	}
	for _, c := range []struct {
		metric string
		words  []string
	}{
		{"lock_acquire_total", outcomes},
		{"raftlock_acquire_duration_seconds", append(slices.Clone(outcomes), session.OutcomeQueued)},
		{"raftlock_wait_duration_seconds", []string{session.OutcomeGranted, session.OutcomeCancelled, session.OutcomeEnded, session.OutcomeError}},
		{"lock_release_total", []string{session.HowReleased, session.HowLost, session.HowRevoked, session.HowSessionEnded}},
		{"raftlock_hold_duration_seconds", []string{session.HowReleased, session.HowLost, session.HowRevoked, session.HowSessionEnded}},
	} {
		got, want := slices.Sorted(slices.Values(values[c.metric])), slices.Sorted(slices.Values(c.words))
		if !slices.Equal(got, want) {
			t.Errorf("%s: the table has %v, measured is %v", c.metric, got, want)
		}
	}
}

// A member has one word for what it is, in status, log and metrics.
func TestRemovedMemberIsAForwarder(t *testing.T) {
	members := []consensus.Server{{ID: "a", Voter: true}, {ID: "b"}}
	for self, want := range map[raft.ServerID]string{"a": telemetry.Voter, "b": telemetry.Standby, "c": telemetry.Forwarder} {
		if got := memberRole(members, self); got != want {
			t.Errorf("%s is a %s, want %s", self, got, want)
		}
	}
	if got := memberRole(nil, "c"); got != telemetry.Standby {
		t.Errorf("who is to be a member is a %s", got)
	}
}

// A nil *Instruments in the interface of a part still measures nothing.
func TestNoMetricsIsNone(t *testing.T) {
	var none *telemetry.Instruments
	var m session.Metrics = none
	m.Acquired(session.OutcomeGranted)
	m.Renewed(1)
}

// However often it is scraped, an agent counts its sessions ten times a second:
// they stand still while it counts.
func TestScrapesShareACount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		counts := 0
		a := lonely(t, &slowStore{files: map[string][]byte{}}, func() time.Duration {
			counts++ // the sessions' Census is who reads the clock here
			return 0
		})
		for range 10 {
			for range 100 {
				a.Observed()
			}
			time.Sleep(censusAge)
		}
		if counts != 10 {
			t.Errorf("counted %d times in a second, want 10", counts)
		}
	})
}
