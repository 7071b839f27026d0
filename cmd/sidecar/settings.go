package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/spf13/pflag"
)

const (
	envPrefix = "RAFTLOCK_"
	// defaultFile is read where it exists, unless another file is named.
	defaultFile = "/etc/raftlock/sidecar.yaml"
)

// Flags are the one table of settings: whatever is registered as a flag is a
// variable and a key of the file too. Those of elsewhere are about how this
// process was called, and make no sense anywhere but on the command line.
var (
	notInEnvironment = []string{"help", "version"}
	notInFile        = []string{"help", "version", "config", "dev", "dev-dir"}
)

// origins tell where a setting is from; what has none is the default.
type origins map[string]string

// note names the origin of whatever was set since the last call.
func (o origins) note(s *pflag.FlagSet, origin func(flag string) string) {
	s.VisitAll(func(f *pflag.Flag) {
		if f.Changed && o[f.Name] == "" {
			o[f.Name] = origin(f.Name)
		}
	})
}

// locate puts the origin of a setting before a complaint that begins with it.
func (o origins) locate(complaint string) string {
	name, found := strings.CutPrefix(complaint, "--")
	name, _, _ = strings.Cut(name, " ")
	origin := o[name]
	if !found || origin == "" || strings.HasPrefix(origin, "--") {
		return complaint
	}
	return origin + ": " + complaint
}

// load sets each flag that was not given on the command line from its variable,
// else from the file. It returns the file's path, empty if none was read, and
// everything that is wrong at once.
func load(s *pflag.FlagSet, lookup func(string) (string, bool), from origins, standard string) (path string, err error) {
	from.note(s, func(flag string) string { return "--" + flag })
	err = fromEnvironment(s, lookup)
	from.note(s, variable)
	path, text, reading := readFile(s, standard)
	if reading != nil {
		return "", errors.Join(err, reading)
	}
	return path, errors.Join(err, fromFile(s, path, text, from))
}

// fromEnvironment sets every flag that was not given from its variable.
func fromEnvironment(s *pflag.FlagSet, lookup func(string) (string, bool)) error {
	var errs []error
	s.VisitAll(func(f *pflag.Flag) {
		if f.Changed || slices.Contains(notInEnvironment, f.Name) {
			return
		}
		name := variable(f.Name)
		value, ok := lookup(name)
		if !ok || value == "" {
			return
		}
		if err := s.Set(f.Name, value); err != nil {
			errs = append(errs, fmt.Errorf("%s=%q: %w", name, value, err))
		}
	})
	return errors.Join(errs...)
}

func variable(flag string) string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// readFile reads the file that --config names. If it names none, that is the
// standard one, which need not exist and is not for --dev.
func readFile(s *pflag.FlagSet, standard string) (path string, text []byte, err error) {
	path, named := s.Lookup("config").Value.String(), s.Changed("config")
	if !named && s.Lookup("dev").Value.String() != "true" {
		path = standard
	}
	if path == "" {
		return "", nil, nil
	}
	text, err = readBounded(path)
	switch {
	case errors.Is(err, fs.ErrNotExist) && !named:
		return "", nil, nil
	case err != nil:
		return "", nil, fmt.Errorf("--config: %w; name a file that can be read, or --config= for none", err)
	}
	return path, text, nil
}

// fileBytesMax is far above what all settings together can need.
const fileBytesMax = 1 << 20

func readBounded(path string) ([]byte, error) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s is no regular file", path)
	case info.Size() > fileBytesMax:
		return nil, fmt.Errorf("%s has %d bytes, above %d", path, info.Size(), fileBytesMax)
	}
	return os.ReadFile(path)
}
