package telemetry

import (
	"strings"
	"testing"
	"time"

	gometrics "github.com/hashicorp/go-metrics"
)

// What Raft and Serf call their own metrics cannot be one of the eight.
func TestLibrariesAreBesideTheTable(t *testing.T) {
	clean(t, nil)
	tel := setUp(t, Config{})
	something(t, tel.Instruments())
	if err := tel.Libraries(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = gometrics.NewGlobal(&gometrics.Config{}, &gometrics.BlackholeSink{}) })
	gometrics.IncrCounter([]string{"raft", "apply"}, 1)
	gometrics.SetGauge([]string{"raft", "term"}, 99)
	gometrics.MeasureSince([]string{"serf", "queue", "Event"}, time.Now())
	text := scrape(t, tel, "")
	for _, want := range []string{"\nlib_raft_apply 1\n", "\nlib_raft_term 99\n", "\nraft_term 5\n", "\nlib_serf_queue_Event_count 1\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is not there", want)
		}
	}
}
