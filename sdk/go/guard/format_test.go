package guard

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
)

var someSalt = [8]byte{1, 2, 3, 4, 5, 6, 7, 8}

// someFile has three batches, and where each ends.
func someFile() (file []byte, ends []int) {
	file = encodeHeader(someSalt)
	for i, records := range [][]record{
		{{"a", 1}, {"b", 2}}, {{"a", 3}, {"RLgb", 9}, {"gone", 4}}, {{"gone", forgotten}, {"b", 1 << 50}},
	} {
		file = append(file, encodeBatch(someSalt, uint64(i+1), records)...)
		ends = append(ends, len(file))
	}
	return file, ends
}

func TestDecode(t *testing.T) {
	file, ends := someFile()
	c, err := decode(file)
	if err != nil || c.whole != ends[2] || c.batches != 3 || c.salt != someSalt {
		t.Fatalf("%+v, %v", c, err)
	}
	if want := map[string]uint64{"a": 3, "b": 1 << 50, "RLgb": 9}; !maps.Equal(c.highest, want) {
		t.Errorf("%v, want %v", c.highest, want)
	}
}

// Cut anywhere, what was whole before the cut is still there.
func TestTornTailIsIgnored(t *testing.T) {
	file, ends := someFile()
	for cut := headerBytes; cut <= len(file); cut++ {
		whole := headerBytes
		for _, end := range ends {
			if end <= cut {
				whole = end
			}
		}
		for name, tail := range map[string][]byte{"cut": nil, "zeroes": make([]byte, 100), "garbage": bytes.Repeat([]byte("RLgb\x00"), 30)} {
			if whole == cut && len(tail) > 0 && cut != ends[2] {
				continue // that is damage, not a tear
			}
			c, err := decode(append(slices.Clone(file[:cut]), tail...))
			if err != nil || c.whole != whole {
				t.Fatalf("%s at %d: %+v, %v", name, cut, c, err)
			}
		}
	}
}

// One byte is changed, anywhere: it is noticed, and nothing that has an intact
// batch behind it is forgotten.
func TestDamageIsNoticed(t *testing.T) {
	file, ends := someFile()
	for at := range file {
		damaged := slices.Clone(file)
		damaged[at] ^= 0x41
		c, err := decode(damaged)
		switch {
		case at < ends[1] && !errors.Is(err, ErrCorrupt):
			t.Fatalf("at %d: %v", at, err)
		case at >= ends[1] && (err != nil || c.whole != ends[1]):
			t.Fatalf("at %d, in the last batch: %+v, %v", at, c, err)
		}
	}
	for name, file := range map[string][]byte{
		"a batch is missing":    append(slices.Clone(file[:ends[0]]), file[ends[1]:]...),
		"a batch is repeated":   append(slices.Clone(file), file[ends[1]:]...),
		"of another file":       append(encodeHeader([8]byte{9}), file[headerBytes:]...)[:headerBytes-1],
		"records that are none": append(encodeHeader(someSalt), encodeBatch(someSalt, 1, []record{{"", 5}})...),
	} {
		if _, err := decode(file); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A name that looks like a batch is none: the salt is not known outside.
func TestNamesCannotForgeBatches(t *testing.T) {
	forged := string(encodeBatch([8]byte{}, 2, []record{{"a", 1}}))
	file := append(encodeHeader(someSalt), encodeBatch(someSalt, 1, []record{{"x", 1}, {forged, 7}})...)
	c, err := decode(file[:len(file)-1])
	if err != nil || c.whole != headerBytes {
		t.Errorf("%+v, %v", c, err)
	}
}

func FuzzDecode(f *testing.F) {
	file, ends := someFile()
	f.Add(file)
	f.Add(file[:ends[1]+9])
	f.Add(encodeHeader(someSalt))
	f.Fuzz(func(t *testing.T, file []byte) {
		c, err := decode(file)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Fatal(err)
			}
			return
		}
		if c.whole < headerBytes || c.whole > len(file) {
			t.Fatalf("whole: %d of %d", c.whole, len(file))
		}
		again, err := decode(file[:c.whole])
		if err != nil || again.whole != c.whole || !maps.Equal(again.highest, c.highest) {
			t.Fatalf("cut to %d: %+v, %v", c.whole, again, err)
		}
	})
}

// FuzzRecords writes what it makes of the input and reads it again, damaged.
func FuzzRecords(f *testing.F) {
	f.Add([]byte("some resource"), uint64(3), 30)
	f.Fuzz(func(t *testing.T, name []byte, token uint64, at int) {
		if len(name) == 0 || len(name) > resourceBytesMax || token == forgotten {
			return
		}
		file := append(encodeHeader(someSalt), encodeBatch(someSalt, 1, []record{{string(name), token}})...)
		first := len(file)
		file = append(file, encodeBatch(someSalt, 2, []record{{"z" + fmt.Sprint(token), 1}})...)
		c, err := decode(file)
		if err != nil || c.highest[string(name)] != token {
			t.Fatalf("%+v, %v", c, err)
		}
		if at < 0 || at >= first {
			return
		}
		file[at] ^= 0xff
		if _, err := decode(file); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("damaged at %d: %v", at, err)
		}
	})
}
