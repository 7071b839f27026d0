package main

import (
	"context"

	"github.com/raftlock/raftlock/agent/daemon"
	"github.com/raftlock/raftlock/telemetry"
)

// observed runs an agent with its telemetry, which outlives it: the last spans
// are those of its stop.
func observed(ctx context.Context, opt daemon.Options) error {
	tel, err := telemetry.Setup(ctx, telemetry.Config{Instance: opt.Name, Version: opt.Version, Log: opt.Log})
	if err != nil {
		return err
	}
	defer func() {
		// ctx has ended by now; Shutdown has a bound of its own.
		if err := tel.Shutdown(context.WithoutCancel(ctx)); err != nil {
			opt.Log.Warn("the last of telemetry was not sent", "error", err)
		}
	}()
	if err := tel.Libraries(); err != nil {
		opt.Log.Warn("what Raft and Serf measure is not at /metrics", "error", err)
	}
	opt.Telemetry = tel
	d, err := daemon.Open(opt)
	if err != nil {
		return err
	}
	return d.Run(ctx)
}
