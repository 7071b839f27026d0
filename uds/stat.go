package uds

import (
	"bytes"
	"errors"
	"strconv"
)

var errStat = errors.New("not a process's stat line")

// startTicksField is the start time's place among the fields that follow the
// process's name: field 22 of the line, and the name is field 2.
const startTicksField = 22 - 3

// parseStat reads the start time, in clock ticks since boot, out of
// /proc/PID/stat. A process chooses its own name, and may put spaces,
// parentheses and newlines into it: the name ends at the last parenthesis.
func parseStat(line []byte) (startTicks uint64, err error) {
	_, rest, ok := bytes.Cut(line, []byte(" ("))
	if !ok {
		return 0, errStat
	}
	end := bytes.LastIndexByte(rest, ')')
	if end < 0 {
		return 0, errStat
	}
	fields := bytes.Fields(rest[end+1:])
	if len(fields) <= startTicksField {
		return 0, errStat
	}
	ticks, err := strconv.ParseUint(string(fields[startTicksField]), 10, 64)
	if err != nil {
		return 0, errStat
	}
	return ticks, nil
}
