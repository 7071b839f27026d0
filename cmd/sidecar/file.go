package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"
)

// file is a YAML file of settings: one mapping, its keys the names of flags.
type file struct {
	path  string
	flags *pflag.FlagSet
	from  origins
	lines map[string]int // where each key was
}

// fromFile sets every flag that was not given otherwise. What was given is
// checked all the same: a mistake must not wait for the day the variable goes.
func fromFile(s *pflag.FlagSet, path string, text []byte, from origins) error {
	f := &file{path: path, flags: s, from: from, lines: map[string]int{}}
	settings, err := f.parse(text)
	if err != nil || settings == nil {
		return err
	}
	var errs []error
	for i := 0; i+1 < len(settings.Content); i += 2 {
		key, value := settings.Content[i], settings.Content[i+1]
		if err := f.setting(key, value); err != nil {
			errs = append(errs, fmt.Errorf("%s:%d: %s: %w", path, key.Line, key.Value, err))
		}
	}
	return errors.Join(errs...)
}

// parse returns the file's mapping; nil if it says nothing.
func (f *file) parse(text []byte) (*yaml.Node, error) {
	var doc, more yaml.Node
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	if err := decoder.Decode(&doc); errors.Is(err, io.EOF) {
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("%s: %w", f.path, err)
	}
	if err := decoder.Decode(&more); err == nil {
		return nil, fmt.Errorf("%s:%d: a second document begins; put all settings into one", f.path, more.Line)
	} else if !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s: %w", f.path, err)
	}
	switch top := doc.Content[0]; {
	case top.Kind == yaml.MappingNode:
		return top, nil
	case top.ShortTag() == "!!null":
		return nil, nil
	default:
		return nil, fmt.Errorf("%s:%d: settings are lines of the form key: value", f.path, top.Line)
	}
}

func (f *file) setting(key, value *yaml.Node) error {
	flag := f.flags.Lookup(key.Value)
	before, twice := f.lines[key.Value]
	switch {
	case key.Kind != yaml.ScalarNode:
		return errors.New("a key is one word")
	case flag == nil:
		return fmt.Errorf("no such setting; %s", f.suggest(key.Value))
	case slices.Contains(notInFile, key.Value):
		return fmt.Errorf("this is for the command line alone: --%s", key.Value)
	case twice:
		return fmt.Errorf("given twice, first in line %d; keep one", before)
	}
	f.lines[key.Value] = key.Line
	if value.Kind == yaml.AliasNode {
		value = value.Alias
	}
	if err := apply(flag, value); err != nil {
		return err
	}
	if !flag.Changed {
		flag.Changed, f.from[flag.Name] = true, fmt.Sprintf("%s:%d", f.path, key.Line)
	}
	return nil
}

// suggest names the key that was meant, if one is near.
func (f *file) suggest(key string) string {
	best, least := "", max(2, len(key)/3)+1
	f.flags.VisitAll(func(flag *pflag.Flag) {
		if d := distance(key, flag.Name); d < least && !slices.Contains(notInFile, flag.Name) && !flag.Hidden {
			best, least = flag.Name, d
		}
	})
	if best == "" {
		return "the keys are the flags that raftlock-sidecar --help lists, without the dashes before them"
	}
	return "did you mean " + best + "?"
}

// distance is how many letters must be put in, taken out or changed to make one
// word of the other.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// apply sets the flag, or only tries to where it was given otherwise.
func apply(flag *pflag.Flag, value *yaml.Node) error {
	if list, ok := flag.Value.(pflag.SliceValue); ok {
		return applyList(flag, list, value)
	}
	kind := kindOf(flag.Value.Type())
	if value.Kind != yaml.ScalarNode || !slices.Contains(kind.tags, value.ShortTag()) {
		return fmt.Errorf("it is to be %s%s", kind.is, found(value))
	}
	old := flag.Value.String()
	if err := flag.Value.Set(value.Value); err != nil {
		return fmt.Errorf("it is to be %s%s", kind.is, found(value))
	}
	if flag.Changed {
		return flag.Value.Set(old)
	}
	return nil
}

func applyList(flag *pflag.Flag, list pflag.SliceValue, value *yaml.Node) error {
	words := []string{}
	for _, item := range value.Content {
		if item.Kind == yaml.AliasNode {
			item = item.Alias
		}
		if item.Kind != yaml.ScalarNode || item.ShortTag() == "!!null" {
			return fmt.Errorf("line %d: an item of a list is one word", item.Line)
		}
		words = append(words, item.Value)
	}
	if value.Kind != yaml.SequenceNode {
		return fmt.Errorf("it is to be a list, such as [a, b]%s", found(value))
	}
	old := list.GetSlice()
	if err := list.Replace(words); err != nil {
		return err
	}
	if flag.Changed {
		return list.Replace(old)
	}
	return nil
}

// kind is what YAML may say for a type of flag.
type kind struct {
	is   string
	tags []string
}

func kindOf(flagType string) kind {
	switch flagType {
	case "bool":
		return kind{"true or false", []string{"!!bool"}}
	case "int":
		return kind{"a whole number", []string{"!!int"}}
	case "duration":
		return kind{"a time with its unit, such as 5s", []string{"!!str"}}
	case "string":
		// Numbers too: a group's, say. "true" is rather a mistake.
		return kind{"text (between quotes, if need be)", []string{"!!str", "!!int", "!!float", "!!timestamp"}}
	case "number|off":
		return kind{"a number or off", []string{"!!str", "!!int"}}
	default:
		return kind{"one word of type " + flagType, []string{"!!str", "!!int", "!!float", "!!timestamp", "!!bool"}}
	}
}

// found ends an error with what stands there.
func found(value *yaml.Node) string {
	switch {
	case value.Kind == yaml.SequenceNode:
		return ", and is a list"
	case value.Kind == yaml.MappingNode:
		return ", and is a mapping"
	case value.ShortTag() == "!!null":
		return ", and is empty; leave the line out for the default"
	}
	return fmt.Sprintf(", and is %q", value.Value)
}
