package tracing

import (
	"strings"
	"testing"

	"go.opentelemetry.io/otel/trace"
)

func TestContextsCrossConnections(t *testing.T) {
	const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	cases := []struct {
		name, parent, state string
		valid, sampled      bool
		stateBack           string
	}{
		{"sampled", parent, "", true, true, ""},
		{"not sampled", strings.TrimSuffix(parent, "1") + "0", "", true, false, ""},
		{"with a state", parent, "a=1,b=2", true, true, "a=1,b=2"},
		{"a state past the bound is left out", parent, "a=" + strings.Repeat("x", stateBytesMax), true, true, ""},
		{"a state that is none is left out", parent, "\x00", true, true, ""},
		{"nothing", "", "", false, false, ""},
		{"a state alone", "", "a=1", false, false, ""},
		{"no context", "hello", "", false, false, ""},
		{"no span", "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01", "", false, false, ""},
		{"past the bound", parent + strings.Repeat("-x", parentBytesMax), "", false, false, ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			sc := Parse(c.parent, c.state)
			if sc.IsValid() != c.valid || sc.IsSampled() != c.sampled {
				t.Fatalf("valid %v sampled %v", sc.IsValid(), sc.IsSampled())
			}
			back, state := Format(sc)
			if want := map[bool]string{true: c.parent}[c.valid]; back != want || state != c.stateBack {
				t.Errorf("formatted %q %q", back, state)
			}
		})
	}
}

func TestNobodyRecordsWithoutATracer(t *testing.T) {
	_, span := OrNone(nil).Start(t.Context(), Serve)
	if Wanted(span) {
		t.Error("a span that nobody asked for is wanted")
	}
	parent := Parse("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "")
	_, span = OrNone(nil).Start(trace.ContextWithRemoteSpanContext(t.Context(), parent), Serve)
	if !Wanted(span) || span.IsRecording() || !span.SpanContext().Equal(parent.WithRemote(true)) {
		t.Errorf("a context is not handed on: %v", span.SpanContext())
	}
	End(span, OutcomeUnknown, "NO_LEADER")
}
