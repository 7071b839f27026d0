package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/raftlock/raftlock/cmd/raftlock/internal/runner"
	raftlock "github.com/raftlock/raftlock/sdk/go"
)

// exits are the statuses that all verbs share, as help prints them. 1 and 2
// are for verbs whose own help says what they mean by them.
var exits = []struct {
	status string
	means  string
}{
	{"0", "done"},
	{"64", "wrong use: the flags, the arguments, a name out of bounds"},
	{"69", "no agent reachable on the socket, or it gave no answer"},
	{"75", "not now: the lock was not acquired, or there is no quorum; try again"},
	{"76", "the lock was lost, or is not held (any more) as the caller says"},
	{"77", "denied"},
	{"126", "the command could not be executed"},
	{"127", "the command was not found"},
	{"128+n", "signal n ended the command, or the wait for the lock"},
}

func exitsText() string {
	var b strings.Builder
	for _, e := range exits {
		fmt.Fprintf(&b, "  %-7s%s\n", e.status, e.means)
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// outcomes say how a refused request ends the program and what to do then. The
// first row that the error is counts.
var outcomes = []struct {
	err  error
	code int
	next string
}{
	{raftlock.ErrInvalid, runner.ExitUsage, "change it; repeating is useless"},
	{raftlock.ErrDenied, runner.ExitDenied, "ask who administers this host's agent"},
	{raftlock.ErrNoQuorum, runner.ExitNotAcquired, "look at raftlock status; get and ls show with --stale what this agent last knew"},
	{raftlock.ErrNoLeader, runner.ExitNotAcquired, "look at raftlock status; get and ls show with --stale what this agent last knew"},
	{raftlock.ErrRateLimited, runner.ExitNotAcquired, "try again later"},
	{raftlock.ErrQueueFull, runner.ExitNotAcquired, "try again later"},
	{raftlock.ErrLimit, runner.ExitNotAcquired, "try again when some are given up"},
	{raftlock.ErrHeld, runner.ExitNotAcquired, "raftlock get shows the holder; a longer --wait waits for it"},
	{raftlock.ErrNotHeld, runner.ExitLost, "its TTL ran out, or it was released; raftlock acquire takes it anew"},
	{raftlock.ErrNotOwner, runner.ExitLost, "raftlock get shows the holder; raftlock acquire waits for it"},
	{raftlock.ErrStaleToken, runner.ExitLost, "it was granted anew meanwhile; raftlock get shows the token"},
	{raftlock.ErrRevoked, runner.ExitLost, "an administrator wants it back; stop what it protects"},
	{raftlock.ErrLost, runner.ExitLost, "stop what it protects; raftlock acquire takes it anew"},
	{raftlock.ErrExpired, runner.ExitLost, "stop what it protects; raftlock acquire takes it anew"},
}

// explain gives a request's error its status and its end.
func (g *global) explain(err error) error {
	var exit *exitError
	if err == nil || errors.As(err, &exit) {
		return err
	}
	for _, o := range outcomes {
		if errors.Is(err, o.err) {
			return &exitError{code: o.code, err: hinted(err, o.next)}
		}
	}
	var told *raftlock.Error
	if errors.As(err, &told) && told.Detail != "" {
		// The agent's own words, so there is one; what it means it says.
		return &exitError{code: runner.ExitNotAcquired, err: fmt.Errorf("%w; look at raftlock status, then try again", err)}
	}
	next := "is the agent running? Its socket is named by --socket or RAFTLOCK_SOCKET" + naming(g.socket, err.Error())
	return &exitError{code: runner.ExitNoAgent, err: fmt.Errorf("%w; %s", err, next)}
}

// hinted ends an error with what to do, unless the agent's words say so already:
// they do after a semicolon.
func hinted(err error, next string) error {
	var told *raftlock.Error
	if errors.As(err, &told) && strings.Contains(told.Detail, "; ") {
		return err
	}
	return fmt.Errorf("%w; %s", err, next)
}
