package docs

import (
	"cmp"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	api "github.com/raftlock/raftlock/api/raftlock/v1"
	"github.com/raftlock/raftlock/telemetry"
)

// rows are the cells of every table of a page; heads and rules are left out.
func rows(text string) [][]string {
	var all [][]string
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		isHead := i+1 < len(lines) && strings.HasPrefix(lines[i+1], "| ---")
		if !strings.HasPrefix(line, "| ") || strings.HasPrefix(line, "| ---") || isHead {
			continue
		}
		cells := strings.Split(strings.Trim(line, "| "), " | ")
		for c := range cells {
			cells[c] = strings.TrimSpace(cells[c])
		}
		all = append(all, cells)
	}
	return all
}

// pairs finds what a source says, as a map from the first to the second group.
func pairs(t *testing.T, path, pattern string) map[string]string {
	t.Helper()
	found := make(map[string]string)
	for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(read(t, path), -1) {
		found[m[1]] = m[2]
	}
	if len(found) < 20 {
		t.Fatalf("%s: only %d found: is the pattern still right?", path, len(found))
	}
	return found
}

var capital = regexp.MustCompile(`[A-Z]`)

// screaming is gRPC's way to write a code's name: InvalidArgument is
// INVALID_ARGUMENT.
func screaming(name string) string {
	return strings.ToUpper(strings.TrimPrefix(capital.ReplaceAllString(name, "_$0"), "_"))
}

// The page of errors has every reason, with what the tables of the code say.
func TestErrorsPageIsTheCode(t *testing.T) {
	codes := pairs(t, "agent/errors.go", `Reason_REASON_(\w+):\s+codes\.(\w+)`)
	statuses := pairs(t, "uds/jsonapi/errors.go", `Reason_REASON_(\w+):\s+http\.Status(\w+)`)
	classes := pythonErrors(t)
	sentinels := pairs(t, "sdk/go/errors.go", `Reason_REASON_(\w+):\s+(Err\w+)`)
	told := make(map[string][]string)
	for _, row := range rows(read(t, "docs/errors.md")) {
		if len(row) == 7 {
			for i := range row {
				row[i] = strings.Trim(row[i], "`")
			}
			told[row[0]] = row
		}
	}
	for _, name := range api.Reason_name {
		reason := strings.TrimPrefix(name, "REASON_")
		if reason == "OK" || reason == "UNSPECIFIED" {
			continue
		}
		row, ok := told[reason]
		if !ok {
			t.Errorf("docs/errors.md lacks %s", reason)
			continue
		}
		for _, want := range []string{screaming(codes[reason]), sentinels[reason], classes[reason], statusCodes[statuses[reason]]} {
			if !slices.Contains(row, want) {
				t.Errorf("docs/errors.md does not say %s for %s: %v", want, reason, row)
			}
		}
		delete(told, reason)
	}
	if len(told) > 0 {
		t.Errorf("docs/errors.md has reasons that do not exist: %v", slices.Sorted(maps.Keys(told)))
	}
}

// pythonErrors is the class of each reason.
func pythonErrors(t *testing.T) map[string]string {
	t.Helper()
	found := make(map[string]string)
	for class := range strings.SplitSeq(read(t, "sdk/python/src/raftlock/_errors.py"), "\nclass ") {
		name, body, _ := strings.Cut(class, "(")
		if m := regexp.MustCompile(`(?m)^    reason, text = "(\w+)"`).FindStringSubmatch(body); m != nil {
			found[m[1]] = name
		}
	}
	if len(found) < 20 {
		t.Fatalf("only %d classes found", len(found))
	}
	return found
}

// statusCodes are the numbers of net/http's names, of those that are used.
var statusCodes = map[string]string{
	"BadRequest": "400", "Forbidden": "403", "NotFound": "404", "Conflict": "409", "PreconditionFailed": "412",
	"TooManyRequests": "429", "ServiceUnavailable": "503", "GatewayTimeout": "504",
}

var flagName = regexp.MustCompile("(?:^|[\\s`(/])--([a-z][a-z-]+)")

// others are flags of programs that are not ours.
var others = []string{
	"unix-socket", "fail-with-body", "silent", "data", "header", // curl
	"append", "groups", // usermod
	"now", "strict", "build", // systemctl, mypy, docker
	"without-lock", "without-guard", // examples
}

// helps are all flags of the programs, read from what they print.
func helps(t *testing.T) map[string]bool {
	t.Helper()
	known := make(map[string]bool)
	for _, name := range others {
		known[name] = true
	}
	var walk func(program string, verbs ...string)
	walk = func(program string, verbs ...string) {
		out, err := exec.Command(filepath.Join(bin, program), append(verbs, "--help")...).CombinedOutput()
		if err != nil {
			t.Fatalf("%s %v --help: %v\n%s", program, verbs, err, out)
		}
		for _, m := range flagName.FindAllStringSubmatch(string(out), -1) {
			known[m[1]] = true
		}
		_, list, _ := strings.Cut(string(out), "Available Commands:\n")
		list, _, _ = strings.Cut(list, "\n\n")
		for line := range strings.Lines(list) {
			if verb := strings.Fields(line)[0]; verb != "help" && verb != "completion" {
				walk(program, append(slices.Clone(verbs), verb)...)
			}
		}
	}
	walk("raftlock-sidecar")
	walk("raftlock")
	return known
}

// A flag that a page names is one of the programs'.
func TestFlagsExist(t *testing.T) {
	known := helps(t)
	if len(known) < 30 {
		t.Fatalf("only %d flags found", len(known))
	}
	for _, page := range append(pages(t), "ARCHITECTURE.md", "CONTRIBUTING.md") {
		for i, line := range strings.Split(read(t, page), "\n") {
			for _, m := range flagName.FindAllStringSubmatch(line, -1) {
				if !known[m[1]] && !strings.Contains(line, "<!-- run by:") {
					t.Errorf("%s:%d names --%s, which no program has", page, i+1, m[1])
				}
			}
		}
	}
}

var target = regexp.MustCompile(`(?:^|[^\w-])make ([a-z][a-z-]+)`)

// A target that a page tells to make is one of the Makefile's, and "make run"
// starts what these tests start.
func TestMakeTargets(t *testing.T) {
	makefile := read(t, "Makefile")
	for _, page := range append(pages(t), "CONTRIBUTING.md") {
		for _, b := range blocks(page, read(t, page)) {
			for _, m := range target.FindAllStringSubmatch(b.text, -1) {
				if !strings.Contains(makefile, "\n"+m[1]+":") {
					t.Errorf("%s: there is no make %s", b, m[1])
				}
			}
		}
	}
	dry := exec.Command("make", "--no-print-directory", "-n", "run")
	dry.Dir = root
	out, err := dry.CombinedOutput()
	if err != nil || !strings.HasSuffix(strings.TrimSpace(string(out)), "\n./bin/raftlock-sidecar --dev") {
		t.Errorf("make run: %v\n%s", err, out)
	}
}

func TestScreaming(t *testing.T) {
	for from, want := range map[string]string{"InvalidArgument": "INVALID_ARGUMENT", "Unavailable": "UNAVAILABLE"} {
		if got := screaming(from); got != want {
			t.Errorf("screaming(%q) = %q", from, got)
		}
	}
}

var marked = regexp.MustCompile("`([^`]+)`")

// The lines that operators are told to look for are lines that the agent logs.
func TestLinesOfTheLogExist(t *testing.T) {
	sources := sources(t)
	n := 0
	for _, row := range rows(read(t, "docs/operate.md")) {
		for _, m := range marked.FindAllStringSubmatch(row[0], -1) {
			line := m[1]
			if !strings.Contains(line, " ") || strings.HasPrefix(line, "raftlock ") || line != strings.TrimSpace(line) {
				continue // a command or a single word
			}
			if n++; !strings.Contains(sources, line) {
				t.Errorf("docs/operate.md tells of %q, which no code says", line)
			}
		}
	}
	if n < 5 {
		t.Errorf("only %d lines found", n)
	}
}

// sources is the text of all production Go files of the agent.
func sources(t *testing.T) string {
	t.Helper()
	var all strings.Builder
	for _, dir := range []string{"agent", "consensus", "gossip", "link", "uds", "telemetry", "cmd/sidecar"} {
		err := filepath.WalkDir(filepath.Join(root, dir), func(path string, entry os.DirEntry, err error) error {
			if err == nil && strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, "_test.go") {
				text, _ := os.ReadFile(path) // may be made and removed meanwhile
				all.Write(text)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return all.String()
}

// The page of metrics is the table of metrics, row by row.
func TestMetricsPageIsTheTable(t *testing.T) {
	told := make(map[string]string)
	page := read(t, "docs/metrics.md")
	for line := range strings.SplitSeq(page, "\n") {
		if name, _, ok := strings.Cut(strings.TrimPrefix(line, "| `"), "`"); ok && strings.HasPrefix(line, "| `") {
			told[name] = line
		}
	}
	for _, m := range telemetry.Table() {
		if got, want := told[m.Name], metricRow(m); got != want {
			t.Errorf("docs/metrics.md has\n%s\nand the table\n%s", got, want)
		}
		delete(told, m.Name)
	}
	if len(told) > 0 {
		t.Errorf("docs/metrics.md has what is not measured: %v", slices.Sorted(maps.Keys(told)))
	}
}

func metricRow(m telemetry.Metric) string {
	var labels []string
	for _, l := range m.Labels {
		text := "`" + l.Name + "`"
		if len(l.Values) > 0 {
			text += ": `" + strings.Join(l.Values, "`, `") + "`"
		}
		labels = append(labels, text)
	}
	kind := string(m.Kind)
	if m.Unit != "" {
		kind += ", " + m.Unit
	}
	return "| `" + m.Name + "` | " + kind + " | " + cmp.Or(strings.Join(labels, "; "), "-") + " | " + m.Help + " |"
}

var metricName = regexp.MustCompile(`\b(?:lock|raft|raftlock)_[a-z_]+\b`)

// A metric that a page names is measured.
func TestMetricsExist(t *testing.T) {
	known := make(map[string]bool)
	for _, m := range telemetry.Table() {
		known[m.Name] = true
		known[m.Name+"_bucket"] = m.Kind == telemetry.Histogram
	}
	notMetrics := []string{"raftlock_tokens"} // a table of the Python guard
	for _, page := range pages(t) {
		for _, name := range metricName.FindAllString(read(t, page), -1) {
			if !known[name] && !slices.Contains(notMetrics, name) {
				t.Errorf("%s names %s, which is not measured", page, name)
			}
		}
	}
}

// The page of traces has every span and attribute that agents make.
func TestTracingPageIsTheCode(t *testing.T) {
	page, names := read(t, "docs/tracing.md"), read(t, "telemetry/tracing/names.go")
	wanted := make(map[string]bool)
	_, spans, _ := strings.Cut(names, "// Names of spans.")
	spans, _, _ = strings.Cut(spans, "// Keys of attributes")
	for _, m := range regexp.MustCompile(`(?m)^\t\w+\s+= "([\w.]+)"`).FindAllStringSubmatch(spans, -1) {
		wanted[m[1]] = true
	}
	keys := make(map[string]string)
	for _, m := range regexp.MustCompile(`Span(\w+)\s+= SpanPrefix \+ "?(\w+)"?`).FindAllStringSubmatch(read(t, "telemetry/key/key.go"), -1) {
		keys[m[1]] = "raftlock." + strings.ToLower(m[2])
	}
	keys["Prefix"] = "raftlock."
	for _, m := range regexp.MustCompile(`attribute\.Key\(key\.Span(\w+)(?: \+ "([\w.]+)")?\)`).FindAllStringSubmatch(names, -1) {
		wanted[keys[m[1]]+m[2]] = true
	}
	if len(wanted) < 20 {
		t.Fatalf("only %d names found: %v", len(wanted), wanted)
	}
	for name := range wanted {
		if !strings.Contains(page, "`"+name+"`") {
			t.Errorf("docs/tracing.md lacks %s", name)
		}
	}
	for _, m := range regexp.MustCompile("`(raftlock\\.[\\w.]+)`").FindAllStringSubmatch(page, -1) {
		if sdk := read(t, "sdk/go/trace.go"); !wanted[m[1]] && !strings.Contains(sdk, `"`+m[1]+`"`) {
			t.Errorf("docs/tracing.md has %s, which the code has not", m[1])
		}
	}
}
