package telemetry

import (
	"os"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.37.0"
)

// asked says what the OTEL_* variables ask for.
type asked struct{ traces, metrics bool }

// environment reads the variables that decide whether anything is sent at all;
// where it goes and how, the SDK reads itself.
func environment() asked {
	if strings.EqualFold(strings.TrimSpace(os.Getenv("OTEL_SDK_DISABLED")), "true") {
		return asked{}
	}
	return asked{
		traces: exports("OTEL_TRACES_EXPORTER",
			"OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"),
		metrics: exports("OTEL_METRICS_EXPORTER", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT"),
	}
}

// exports reports whether a signal is to be sent. An exporter named counts more
// than an endpoint; an empty variable is none. prometheus is what this agent
// has at /metrics already: the SDK's own would open one more port for it.
func exports(exporter string, endpoints ...string) bool {
	switch strings.TrimSpace(os.Getenv(exporter)) {
	case "none", "prometheus":
		return false
	case "":
		for _, e := range endpoints {
			if os.Getenv(e) != "" {
				return true
			}
		}
		return false
	}
	return true
}

// identity is what this process says of itself unless the environment says
// otherwise.
func identity(cfg Config) []attribute.KeyValue {
	out := []attribute.KeyValue{semconv.ServiceName("raftlock")}
	if cfg.Instance != "" {
		out = append(out, semconv.ServiceInstanceID(cfg.Instance))
	}
	if cfg.Version != "" {
		out = append(out, semconv.ServiceVersion(cfg.Version))
	}
	return out
}
