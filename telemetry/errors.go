package telemetry

import (
	"log/slog"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"go.opentelemetry.io/otel"
)

// complainEvery is how often the log is told that sending does not work: a
// collector that is away for a day must not fill the disk.
const complainEvery = time.Minute

// hearSDK sends to the log what the SDK would print by itself. The SDK has one
// place for it in a process, so the last Setup counts.
func hearSDK(log *slog.Logger) {
	log = log.With("component", "telemetry")
	otel.SetErrorHandler(&complaints{log: log})
	otel.SetLogger(logr.FromSlogHandler(log.Handler()))
}

// complaints takes the SDK's errors, most of which say again and again that
// something could not be sent.
type complaints struct {
	log *slog.Logger

	mu     sync.Mutex // guards the rest
	last   time.Time
	untold int
}

// Handle implements otel.ErrorHandler.
func (c *complaints) Handle(err error) {
	c.mu.Lock()
	now := time.Now()
	if !c.last.IsZero() && now.Sub(c.last) < complainEvery {
		c.untold++
		c.mu.Unlock()
		return
	}
	untold := c.untold
	c.last, c.untold = now, 0
	c.mu.Unlock()
	c.log.Warn("telemetry is not sent as it should", "error", err, "untold", untold)
}
