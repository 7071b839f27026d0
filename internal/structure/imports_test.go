package structure

import (
	"slices"
	"strings"
	"testing"
)

// A row says what packages of this module the production files of some
// packages may import.
type row struct {
	packages []string
	may      []string
	why      string
}

// table is design section 3: cmd -> agent -> {uds, link, gossip, consensus} ->
// {lease, fsm} -> api. The first row that fits a package counts. A package
// without a row fails the test: to add one is a decision.
//
// internal/mutant is left out of it: any package that has a safety rule asks
// it, but the contract packages, which have none.
var table = []row{
	{[]string{"api/..."}, []string{"api/..."},
		"the public contract stands on nothing of ours"},
	{[]string{"telemetry/..."}, []string{"telemetry/..."},
		"telemetry is handed in, so it knows nobody"},
	{[]string{"fsm/command"}, nil,
		"messages of the log have no services, so that fsm pulls in no gRPC and no net"},
	{[]string{"fsm/..."}, []string{"fsm/..."},
		"the state machine is pure; it knows the log's messages and nothing else"},
	{[]string{"lease/..."}, []string{"lease/...", "fsm/command"},
		"leases know no Raft, no network and no state machine"},
	{[]string{"uds/..."}, []string{"uds/...", "api/..."},
		"edges do not know each other: agent introduces them"},
	{[]string{"link/..."}, []string{"link/...", "fsm/command", "api/..."},
		"edges do not know each other; frames carry commands as they are (docs/decisions/0003)"},
	{[]string{"gossip/..."}, []string{"gossip/...", "telemetry/key"},
		"gossip tells who is out there, and nothing about locks"},
	{[]string{"consensus/..."}, []string{"consensus/...", "lease/...", "fsm/...", "api/...", "telemetry/tracing", "telemetry/key"},
		"edges do not know each other: agent introduces them"},
	{[]string{"agent/bootstrap", "agent/session"}, []string{"agent/bootstrap", "agent/session", "lease", "fsm", "fsm/command", "link", "link/linkpb", "api/...", "telemetry/tracing", "telemetry/key"},
		"parts of the agent are composed by agent, and do not know it"},
	{[]string{"agent/..."}, []string{"agent/...", "uds/...", "link/...", "gossip/...", "consensus/...", "lease/...", "fsm/...", "api/...", "telemetry/..."},
		"agent composes the edges; SDKs are clients of the socket like any application"},
	{[]string{"cmd/sidecar/..."}, []string{"cmd/sidecar/...", "agent/daemon", "telemetry"},
		"the daemon's main has flags and signals, no logic"},
	{[]string{"cmd/raftlock/...", "examples/..."}, []string{"cmd/raftlock/...", "examples/...", "sdk/go/...", "api/..."},
		"the command-line tool and the examples are clients like any application"},
	{[]string{"sdk/go/..."}, []string{"sdk/go/...", "api/..."},
		"an application that imports the SDK must not get the agent with it"},
	{[]string{"deploy/..."}, nil,
		"files for other programs, and tests that run those"},
	{[]string{"internal/mutant", "internal/structure", "internal/devagent", "internal/docs", "internal/needs", "internal/reference"}, nil,
		"used by all, so they use none"},
	{[]string{"internal/mutant/cmd/mutants"}, []string{"internal/mutant"},
		"it starts tests, it does not link them"},
	{[]string{"sim/...", "bench/..."}, []string{"..."},
		"a harness may use anything"},
}

const mutantPackage = "internal/mutant"

// withoutRules are the packages that must not ask internal/mutant.
var withoutRules = []string{"api/...", "fsm/command", "link/linkpb", "telemetry/..."}

func rowOf(dir string) *row {
	for i := range table {
		if matchesAny(dir, table[i].packages) {
			return &table[i]
		}
	}
	return nil
}

func TestImportsGoOneWay(t *testing.T) {
	for _, f := range mustGoFiles(t) {
		if f.test {
			continue
		}
		r := rowOf(f.dir)
		if r == nil {
			t.Errorf("%s: package %s has no row in the table of imports", f.path, f.dir)
			continue
		}
		for _, imported := range f.imports() {
			dir, ok := ours(imported)
			switch {
			case !ok || matchesAny(dir, r.may):
			case dir == mutantPackage && !matchesAny(f.dir, withoutRules):
			default:
				t.Errorf("%s imports %s: %s", f.path, dir, r.why)
			}
		}
	}
}

func TestHarnessesAreImportedByNobody(t *testing.T) {
	for _, f := range mustGoFiles(t) {
		if f.test || within(f.dir, "sim") || within(f.dir, "bench") {
			continue
		}
		for _, imported := range f.imports() {
			if dir, ok := ours(imported); ok && (within(dir, "sim") || within(dir, "bench")) {
				t.Errorf("%s imports %s: harnesses may use anything, so nothing may use them", f.path, dir)
			}
		}
	}
}

// Holds in tests too: a test that needs two edges tests their composition, and
// belongs to agent or sim.
func TestEdgesNeverMeet(t *testing.T) {
	edges := []string{"uds", "link", "gossip", "consensus"}
	edgeOf := func(dir string) string {
		i := slices.IndexFunc(edges, func(edge string) bool { return within(dir, edge) })
		if i < 0 {
			return ""
		}
		return edges[i]
	}
	for _, f := range mustGoFiles(t) {
		from := edgeOf(f.dir)
		if from == "" {
			continue
		}
		for _, imported := range f.imports() {
			dir, ok := ours(imported)
			if to := edgeOf(dir); ok && to != "" && to != from {
				t.Errorf("%s imports %s: edges do not know each other, agent introduces them through interfaces", f.path, dir)
			}
		}
	}
}

// fsmImports is all that fsm may import directly: values in, values out.
var fsmImports = []string{
	"bufio", "bytes", "cmp", "container/heap", "container/list", "crypto/sha256", "crypto/subtle", "encoding/binary",
	"encoding/hex", "errors", "fmt", "hash", "hash/crc32", "hash/crc64", "hash/fnv", "io", "iter", "maps", "math",
	"math/bits", "slices", "sort", "strconv", "strings", "unicode", "unicode/utf8",
	"github.com/tidwall/btree",
	"google.golang.org/protobuf/encoding/protowire", "google.golang.org/protobuf/proto",
	"google.golang.org/protobuf/reflect/protoreflect",
}

// leaseImports is all that lease may import directly. Package time is there for
// its durations; TestCoreReadsNoClock keeps its clock out.
var leaseImports = []string{
	"bytes", "cmp", "container/heap", "encoding/hex", "errors", "fmt", "iter", "maps", "math", "slices", "sort", "strconv",
	"strings", "time", "github.com/tidwall/btree",
}

func TestCoreImportsAreFew(t *testing.T) {
	core := []struct {
		dir     string
		allowed []string
		why     string
	}{
		{"fsm", fsmImports, "the state machine has no clock, no I/O, no goroutine, no randomness (design section 4)"},
		{"lease", leaseImports, "leases are handed their clock, and know no Raft and no network (design section 3)"},
	}
	for _, c := range core {
		t.Run(c.dir, func(t *testing.T) {
			for _, f := range mustGoFiles(t) {
				if f.dir != c.dir || f.test || f.generated {
					continue
				}
				for _, imported := range f.imports() {
					if _, mine := ours(imported); !mine && !slices.Contains(c.allowed, imported) {
						t.Errorf("%s imports %s, which is not on the list: %s", f.path, imported, c.why)
					}
				}
			}
		})
	}
}

// The protobuf runtime, and so every package of messages, brings os, time, sync
// and reflect with it; fmt brings os. That is why these are kept out directly
// (TestCoreImportsAreFew) but not here.
func TestBannedDependencies(t *testing.T) {
	const (
		raft = "github.com/hashicorp/raft"
		grpc = "google.golang.org/grpc"
	)
	rules := []struct {
		packages []string
		banned   []string
		why      string
	}{
		{[]string{"fsm/...", "lease/..."}, []string{"net", "log", "os/exec", "math/rand", "math/rand/v2", raft, grpc},
			"the core has no I/O and must build anywhere, however it is replicated"},
		{[]string{"api/...", "sdk/go/...", "cmd/raftlock/...", "examples/...", "gossip/...", "uds/...", "link/..."}, []string{raft},
			"only consensus knows how the log is replicated"},
	}
	deps := dependencies(t)
	for _, rule := range rules {
		for dir, all := range deps {
			if !matchesAny(dir, rule.packages) {
				continue
			}
			for _, banned := range rule.banned {
				if i := slices.IndexFunc(all, func(dep string) bool { return fits(dep, banned) }); i >= 0 {
					t.Errorf("%s depends on %s (go list -deps ./%s): %s", dir, all[i], dir, rule.why)
				}
			}
		}
	}
}

// fits reports whether dep is the banned package, or for a banned module is
// within it. Names of the standard library are exact: net/netip is not net.
func fits(dep, banned string) bool {
	return dep == banned || strings.Contains(banned, ".") && strings.HasPrefix(dep, banned+"/")
}

// agent builds the stores and the transport that consensus is handed, so it
// names their types; it calls nothing of the library that concerns the log.
func TestRaftStaysBehindConsensus(t *testing.T) {
	may := []string{"consensus/...", "agent", "agent/daemon", "sim/...", "bench/..."}
	for _, f := range mustGoFiles(t) {
		if f.test || matchesAny(f.dir, may) {
			continue
		}
		for _, imported := range f.imports() {
			if within(imported, "github.com/hashicorp/raft") {
				t.Errorf("%s imports %s: the library is consensus's to adapt (design section 3)", f.path, imported)
			}
		}
	}
}
