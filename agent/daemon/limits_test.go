package daemon

import (
	"log/slog"
	"strings"
	"testing"
)

func TestBoundIsANumberOrOff(t *testing.T) {
	for text, want := range map[string]Bound{"off": Unbounded, "1": 1, "20000": 20000, "0": 0} {
		var b Bound
		if err := b.Set(text); err != nil || b != want || b.String() != text {
			t.Errorf("%q is read as %d, and written %q: %v", text, b, b, err)
		}
	}
	for _, text := range []string{"", "-1", "on", "1.5", "OFF", "1e3"} {
		var b Bound
		if b.Set(text) == nil {
			t.Errorf("%q is taken", text)
		}
	}
}

// 0 is a value like any other, and would let nobody in: it is no way to say
// "off" or "the default".
func TestLimitsOfNothingAreRefused(t *testing.T) {
	for name, change := range map[string]func(*Options){
		"--limit-rate":       func(o *Options) { o.LimitRate = 0 },
		"--limit-burst":      func(o *Options) { o.LimitBurst = 0 },
		"--limit-concurrent": func(o *Options) { o.LimitConcurrent = 0 },
		"--limit-burst off":  func(o *Options) { o.LimitBurst = Unbounded },
		"--http-writes":      func(o *Options) { o.HTTPWrites = true },
	} {
		o := DevOptions(t.TempDir())
		o.Log, o.Name = slog.New(slog.DiscardHandler), "a"
		if err := o.Validate(); err != nil {
			t.Fatal(err)
		}
		change(&o)
		if err := o.Validate(); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
	o := DevOptions(t.TempDir())
	o.Name, o.LimitRate, o.LimitBurst, o.LimitConcurrent = "a", Unbounded, Unbounded, Unbounded
	if err := o.Validate(); err != nil {
		t.Errorf("all off: %v", err)
	}
	if err := o.limits().Validate(); err != nil {
		t.Errorf("what is taken here is not taken there: %v", err)
	}
}
