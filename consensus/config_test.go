package consensus

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

func TestValidateNamesEverything(t *testing.T) {
	err := DefaultConfig().Validate()
	if err == nil {
		t.Fatal("an empty configuration is valid")
	}
	for _, want := range []string{
		"server id", "address", "cluster id", "transport", "log store", "stable store", "snapshot store",
		"asker", "leader's side", "wall clock", "log is missing", "fatal",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not named in:\n%v", want, err)
		}
	}
}

func TestValidate(t *testing.T) {
	c := &cluster{t: t, net: newNetwork()}
	m := &member{id: "s0", addr: "s0:1", disk: newDisk(), snapshots: raft.NewInmemSnapshotStore(), side: &recorder{}}
	tests := []struct {
		name   string
		change func(*Config)
		want   string
	}{
		{"defaults", func(*Config) {}, ""},
		{"no pre-vote", func(c *Config) { c.Transport = struct{ raft.Transport }{c.Transport} }, "pre-vote"},
		{"bound within an election", func(c *Config) { c.ApplyBound = time.Second }, "apply bound"},
		{"no queue", func(c *Config) { c.QueueMax = 0 }, "queue bound"},
		{"queue below an entry", func(c *Config) { c.QueueBytesMax = 100 }, "below one entry"},
		{"lease above heartbeat", func(c *Config) { c.LeaderLease = time.Hour }, "LeaderLeaseTimeout"},
		{"no confirm", func(c *Config) { c.ConfirmTimeout = 0 }, "confirm timeout"},
		{"no close", func(c *Config) { c.CloseBound = 0 }, "close bound"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			cfg := c.config(m)
			tt.change(&cfg)
			err := cfg.Validate()
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func TestRaftLogsIntoSlog(t *testing.T) {
	var out bytes.Buffer
	l := newHCLog(slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelInfo}))).
		With("peer", "b").Named("raft")
	l.Debug("hidden")
	l.Warn("shown", "servers", hclog.Fmt("%d of %d", 1, 2), "peer", raft.Server{ID: "s1"}, "last-leader-id", "c", "last-index", 7)
	l.StandardLogger(nil).Print("plain")
	got := out.String()
	for _, want := range []string{"level=WARN", "shown", `servers="1 of 2"`, "node=b", "node=s1", "last_leader=c", "last_index=7", "plain"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in %s", want, got)
		}
	}
	if strings.Contains(got, "hidden") || l.IsDebug() || !l.IsError() || l.Name() != "raft" {
		t.Errorf("levels: %s", got)
	}
}
