// Package metrics stands in for github.com/hashicorp/go-metrics/compat, which
// raft-boltdb v2.3.1 imports and go-metrics v0.7.0 no longer has. It forwards
// the four functions that raft-boltdb calls, and nothing else.
//
// It owns no state. It can go as soon as raft-boltdb imports go-metrics itself;
// docs/decisions/0001-dependencies.md has the story.
package metrics

import (
	"time"

	"github.com/hashicorp/go-metrics"
)

// AddSample forwards to go-metrics.
func AddSample(key []string, val float32) { metrics.AddSample(key, val) }

// IncrCounter forwards to go-metrics.
func IncrCounter(key []string, val float32) { metrics.IncrCounter(key, val) }

// MeasureSince forwards to go-metrics.
func MeasureSince(key []string, start time.Time) { metrics.MeasureSince(key, start) }

// SetGauge forwards to go-metrics.
func SetGauge(key []string, val float32) { metrics.SetGauge(key, val) }
