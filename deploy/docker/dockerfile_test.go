package docker

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// image is what a Dockerfile makes: a root file system and how to run it.
type image struct {
	root        string // where the file system is
	environment []string
	user        string
	entrypoint  []string
	healthcheck []string
	volumes     []string
}

// instructions are the Dockerfile's, each in a line.
func instructions(t *testing.T) (all []string) {
	t.Helper()
	text, err := os.ReadFile("Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	whole := ""
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "#") || line == "" {
			continue
		}
		if rest, goesOn := strings.CutSuffix(line, "\\"); goesOn {
			whole += rest
			continue
		}
		all, whole = append(all, whole+line), ""
	}
	return all
}

// build does what the Dockerfile says, in the way that needs no Docker: the
// first stage copies to a folder and runs its commands there, with /out beside
// it, and the second stage's copies go to the image's root. It takes root, for
// the owners of files.
func build(t *testing.T) *image {
	t.Helper()
	i := &image{root: filepath.Join(t.TempDir(), "root")}
	if err := os.MkdirAll(i.root, 0o755); err != nil {
		t.Fatal(err)
	}
	final := false
	for _, line := range instructions(t) {
		word, rest, _ := strings.Cut(line, " ")
		var err error
		switch {
		case word == "FROM":
			final = rest == "scratch"
		case !final && word == "WORKDIR":
			// It is source.
		case !final && word == "COPY":
			err = once(line, func() error { return copyIn(strings.Fields(rest)) })
		case !final && word == "RUN":
			err = once(line, func() error { return runIn(strings.ReplaceAll(rest, "/out/", out+"/")) })
		case !final:
			err = fmt.Errorf("not understood in the first stage")
		default:
			err = i.take(word, rest)
		}
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
	}
	return i
}

// source and out are the first stage's working directory and /out: folders of
// TestMain's, since nothing of it differs from one test to the next.
var source, out string

var done = map[string]bool{}

func once(line string, do func() error) error {
	if done[line] {
		return nil
	}
	done[line] = true
	return do()
}

// runIn runs a command of the first stage.
func runIn(command string) error {
	cmd := exec.Command("sh", "-c", command)
	cmd.Dir = source
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// copyIn is COPY of the first stage: everything that is not ignored.
func copyIn(words []string) error {
	if len(words) != 2 || words[0] != "." || words[1] != "." {
		return fmt.Errorf("not understood in the first stage")
	}
	cmd := exec.Command("sh", "-c",
		`cd ../.. && tar -c --anchored --exclude-from=deploy/docker/Dockerfile.dockerignore -- * .[!.]* | tar -x -C "$0"`, source)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// take does one instruction of the last stage.
func (i *image) take(word, rest string) error {
	switch word {
	case "COPY":
		return i.copy(strings.ReplaceAll(rest, "/out/", out+"/"))
	case "ENV":
		i.environment = append(i.environment, strings.Fields(rest)...)
	case "USER":
		i.user = rest
	case "EXPOSE":
	case "VOLUME":
		return json.Unmarshal([]byte(rest), &i.volumes)
	case "ENTRYPOINT":
		return json.Unmarshal([]byte(rest), &i.entrypoint)
	case "HEALTHCHECK":
		_, command, _ := strings.Cut(rest, "CMD ")
		return json.Unmarshal([]byte(command), &i.healthcheck)
	default:
		return fmt.Errorf("not understood in the last stage")
	}
	return nil
}

// copy is COPY --from=build of a folder: its content goes into the target.
func (i *image) copy(rest string) error {
	owner, mode := 0, fs.FileMode(0o755)
	var places []string
	for _, word := range strings.Fields(rest) {
		var err error
		switch name, value, _ := strings.Cut(word, "="); name {
		case "--from":
			if value != "build" {
				err = fmt.Errorf("no stage %q", value)
			}
		case "--chown":
			uid, gid, _ := strings.Cut(value, ":")
			if owner, err = strconv.Atoi(uid); uid != gid {
				err = fmt.Errorf("owner and group differ in %q", value)
			}
		case "--chmod":
			var bits uint64
			bits, err = strconv.ParseUint(value, 8, 9)
			mode = fs.FileMode(bits)
		default:
			places = append(places, word)
		}
		if err != nil {
			return err
		}
	}
	if len(places) != 2 {
		return fmt.Errorf("from where to where is %q", places)
	}
	to := filepath.Join(i.root, places[1])
	if err := os.CopyFS(to, os.DirFS(places[0])); err != nil {
		return err
	}
	if err := os.MkdirAll(to, 0o755); err != nil { // an empty folder
		return err
	}
	if err := os.Chmod(to, mode); err != nil {
		return err
	}
	return os.Chown(to, owner, owner)
}
