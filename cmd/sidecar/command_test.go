package main

import (
	"bytes"
	"context"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"github.com/raftlock/raftlock/agent/daemon"
)

func parse(t *testing.T, environment map[string]string, args ...string) (*flags, *pflag.FlagSet, error) {
	t.Helper()
	f := &flags{opt: daemon.DefaultOptions()}
	s := pflag.NewFlagSet("test", pflag.ContinueOnError)
	f.register(s)
	if err := s.Parse(args); err != nil {
		return nil, nil, err
	}
	return f, s, fromEnvironment(s, func(name string) (string, bool) {
		v, ok := environment[name]
		return v, ok
	})
}

func TestFlagsCountMoreThanVariables(t *testing.T) {
	f, _, err := parse(t, map[string]string{
		"RAFTLOCK_NAME": "variable", "RAFTLOCK_DATA_DIR": "/v", "RAFTLOCK_JOIN": "a,b:1",
		"RAFTLOCK_EXPECT": "3", "RAFTLOCK_ELECTION_TIMEOUT": "2s", "RAFTLOCK_INSECURE_PLAINTEXT": "true",
		"RAFTLOCK_ROLE": "", // empty counts as absent
	}, "--name", "flag")
	if err != nil {
		t.Fatal(err)
	}
	o := f.opt
	if o.Name != "flag" || o.DataDir != "/v" || strings.Join(o.Join, " ") != "a b:1" || o.Expect != 3 ||
		o.ElectionTimeout != 2*time.Second || !o.InsecurePlaintext || o.Role != daemon.RoleAuto {
		t.Errorf("%+v", o)
	}
}

func TestBadVariablesAreNamedAtOnce(t *testing.T) {
	_, _, err := parse(t, map[string]string{"RAFTLOCK_EXPECT": "five", "RAFTLOCK_ELECTION_TIMEOUT": "1"})
	for _, want := range []string{`RAFTLOCK_EXPECT="five"`, `RAFTLOCK_ELECTION_TIMEOUT="1"`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not name %s", err, want)
		}
	}
}

// What is wrong is told at once, flags of this command and those of the daemon.
func TestImpossibleCombinationsAreRefused(t *testing.T) {
	var out bytes.Buffer
	cmd := newCommand(func(string) (string, bool) { return "", false })
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	cmd.SetArgs([]string{"--bind", "10.0.0.1", "--expect", "2", "--log-level", "loud", "--log-format", "xml"})
	err := cmd.ExecuteContext(context.Background())
	for _, want := range []string{"--insecure-plaintext", "--expect 2", "--log-level", "--log-format"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not name %s", err, want)
		}
	}
}

func TestDevKeepsWhatWasGiven(t *testing.T) {
	dir := t.TempDir()
	f, s, err := parse(t, nil, "--dev", "--dev-dir", dir, "--socket", "/tmp/mine.sock")
	if err != nil {
		t.Fatal(err)
	}
	o, err := f.options(s)
	if err != nil {
		t.Fatal(err)
	}
	if o.Socket != "/tmp/mine.sock" || o.DataDir != dir+"/data" || o.Expect != 1 || !o.Dev {
		t.Errorf("%+v", o)
	}
	if f, s, err = parse(t, nil, "--dev-dir", dir); err != nil {
		t.Fatal(err)
	}
	if _, err := f.options(s); err == nil {
		t.Error("--dev-dir without --dev is taken")
	}
}

func TestHelpTellsWhatEachTimingSets(t *testing.T) {
	_, s, err := parse(t, nil)
	if err != nil {
		t.Fatal(err)
	}
	for flag, raft := range map[string]string{
		"election-timeout": "ElectionTimeout", "heartbeat-interval": "HeartbeatTimeout", "snapshot-interval": "SnapshotInterval",
	} {
		if !strings.Contains(s.Lookup(flag).Usage, raft) {
			t.Errorf("--%s does not name Raft's %s", flag, raft)
		}
	}
}
