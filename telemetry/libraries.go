package telemetry

import (
	"fmt"
	"time"

	gometrics "github.com/hashicorp/go-metrics"
	sink "github.com/hashicorp/go-metrics/prometheus"
)

// librariesPrefix goes before the names of the libraries' metrics, so that none
// of them can be one of the table.
const librariesPrefix = "lib"

// librariesForget is how long a metric of the libraries' is told that is not
// measured any more: some of them are named after members.
const librariesForget = time.Minute

// Libraries serves at Handler too what Raft, Serf and memberlist measure by
// themselves, as lib_raft_..., lib_serf_... and lib_memberlist_...: for those who
// know the libraries, without a promise that a name stays. They measure into one
// place of the process, so the last call counts; only a program's main should.
func (t *Telemetry) Libraries() error {
	s, err := sink.NewPrometheusSinkFrom(sink.PrometheusOpts{Expiration: librariesForget, Registerer: t.registry})
	if err != nil {
		return fmt.Errorf("serve the libraries' metrics: %w", err)
	}
	c := gometrics.DefaultConfig(librariesPrefix)
	c.EnableHostname, c.EnableHostnameLabel, c.EnableRuntimeMetrics = false, false, false
	c.FilterDefault = true
	if _, err := gometrics.NewGlobal(c, s); err != nil {
		return fmt.Errorf("collect the libraries' metrics: %w", err)
	}
	return nil
}
