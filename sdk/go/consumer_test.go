package raftlock

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

const ourModule = "github.com/raftlock/raftlock"

// What comes with the SDK, and nothing else does: of this module these
// packages, of other modules any.
var (
	ownWithSDK = []string{"api/raftlock/v1", "internal/mutant", "sdk/go", "sdk/go/guard"}
	// othersWithSDK: gRPC, the API of OpenTelemetry (not its SDK), and what they
	// stand on.
	othersWithSDK = []string{"golang.org/x/net", "golang.org/x/sys", "golang.org/x/text",
		"google.golang.org/genproto/googleapis/rpc", "google.golang.org/grpc", "google.golang.org/protobuf",
		"go.opentelemetry.io/otel", "go.opentelemetry.io/otel/trace", "go.opentelemetry.io/otel/metric",
		"go.opentelemetry.io/otel/log", "go.opentelemetry.io/auto/sdk",
		"github.com/go-logr/logr", "github.com/go-logr/stdr", "github.com/cespare/xxhash/v2"}
)

const consumerProgram = `package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/raftlock/raftlock/sdk/go"
	"github.com/raftlock/raftlock/sdk/go/guard"
)

func main() {
	g := guard.New()
	if err := g.Check("report", 1); err != nil {
		panic(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	_, err := raftlock.NewSession(ctx, raftlock.WithSocket(os.Args[1]))
	fmt.Println(err)
}
`

// TestConsumersModule builds what an application is: a module of its own that
// knows only the SDK. It must tidy and build, and get nothing of the agent.
func TestConsumersModule(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, text := range map[string]string{
		"main.go": consumerProgram,
		"go.mod":  "module example.com/consumer\n\ngo 1.26.0\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("GOFLAGS", "-mod=mod")
	t.Setenv("GOWORK", "off")
	in(t, dir, "go", "mod", "edit", "-require", ourModule+"@v0.0.0", "-replace", ourModule+"="+root) // as the quickstart says
	in(t, dir, "go", "mod", "tidy")
	in(t, dir, "go", "build", "-o", "consumer", ".")
	nobody := filepath.Join(dir, "no.sock")
	if said := in(t, dir, "./consumer", nobody); !strings.Contains(said, nobody) {
		t.Errorf("it says %q", said)
	}
	deps := in(t, dir, "go", "list", "-deps", "-f", "{{if .Module}}{{.Module.Path}} {{.ImportPath}}{{end}}", ".")
	for line := range strings.Lines(deps) {
		module, path, found := strings.Cut(strings.TrimSpace(line), " ")
		own := strings.TrimPrefix(path, ourModule+"/")
		switch {
		case !found, module == "example.com/consumer":
		case module == ourModule && slices.Contains(ownWithSDK, own):
		case slices.Contains(othersWithSDK, module):
		default:
			t.Errorf("the SDK brings %s of %s", path, module)
		}
	}
	if !strings.Contains(deps, ourModule+"/sdk/go/guard\n") {
		t.Errorf("no guard among %s", deps)
	}
}

// The guard goes where no gRPC is wanted.
func TestGuardBringsNothing(t *testing.T) {
	t.Setenv("GOFLAGS", "-mod=readonly") // this tree's go.mod is not ours to change here
	deps := in(t, ".", "go", "list", "-deps", "-f", "{{if .Module}}{{.Module.Path}} {{.ImportPath}}{{end}}", "./guard")
	for line := range strings.Lines(deps) {
		line = strings.TrimSpace(line)
		if line != "" && line != ourModule+" "+ourModule+"/sdk/go/guard" && !strings.HasPrefix(line, "golang.org/x/sys ") {
			t.Errorf("the guard brings %s", line)
		}
	}
}

// in runs a command in dir and returns what it printed.
func in(t *testing.T, dir string, command ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Dir, cmd.WaitDelay = dir, 5*time.Second
	out, err := cmd.Output()
	if err != nil {
		var said []byte
		if exit, ok := err.(*exec.ExitError); ok {
			said = exit.Stderr
		}
		t.Fatalf("%s: %v\n%s", strings.Join(command, " "), err, said)
	}
	return string(out)
}
