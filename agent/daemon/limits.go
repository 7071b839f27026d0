package daemon

import (
	"fmt"
	"os"
	"strconv"

	"github.com/raftlock/raftlock/uds/limit"
)

// Bound is a number that can be switched off: 0 is a number too, and never
// means that.
type Bound int

// Unbounded switches a Bound off. As text it is "off".
const Unbounded Bound = limit.Off

// String writes it as Set reads it.
func (b Bound) String() string {
	if b == Unbounded {
		return "off"
	}
	return strconv.Itoa(int(b))
}

// Set reads a number or "off".
func (b *Bound) Set(text string) error {
	if text == "off" {
		*b = Unbounded
		return nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		return fmt.Errorf("%q: give a number, or off", text)
	}
	*b = Bound(n)
	return nil
}

// Type names it in a flag's help.
func (*Bound) Type() string { return "number|off" }

func (o Options) validateLimits(bad complain) {
	for _, l := range []struct {
		flag string
		b    Bound
	}{{"--limit-rate", o.LimitRate}, {"--limit-burst", o.LimitBurst}, {"--limit-concurrent", o.LimitConcurrent}} {
		bad(l.b < 1 && l.b != Unbounded, "%s %s would refuse every request: give 1 or more, or off", l.flag, l.b)
	}
	bad(o.LimitBurst == Unbounded && o.LimitRate != Unbounded, "--limit-burst off with --limit-rate %s: give a number, or switch the rate off too", o.LimitRate)
}

func (o Options) limits() limit.Config {
	c := limit.DefaultConfig()
	c.Rate, c.Burst, c.Concurrent = int(o.LimitRate), int(o.LimitBurst), int(o.LimitConcurrent)
	c.Kept = kept()
	return c
}

// turns bound the heavy work of one kind.
func turns() limit.TurnsConfig {
	c := limit.DefaultTurnsConfig()
	c.Kept = kept()
	return c
}

// kept are the identities of who looks after the host and its agent.
func kept() []string { return []string{"uid:0", fmt.Sprintf("uid:%d", os.Getuid())} }
