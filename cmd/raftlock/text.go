package main

import (
	"regexp"
	"strings"
)

var (
	// What gRPC puts around what somebody said.
	rpcStatus = regexp.MustCompile(`rpc error: code = \w+ desc = `)
	rpcDial   = regexp.MustCompile(`connection error: desc = "(?:transport: )?(?:[Ee]rror while dialing:? )?([^"]*)"`)
	unixDial  = regexp.MustCompile(`dial unix ([^:\s]+): `)
)

// forPeople takes out of an error's text what is for programmers, and what it
// has said already; more problems than one are a line each.
func forPeople(text string) string {
	text = rpcDial.ReplaceAllString(rpcStatus.ReplaceAllString(text, ""), "$1")
	for _, m := range unixDial.FindAllStringSubmatch(text, -1) {
		if strings.Count(text, m[1]) > 1 {
			text = strings.Replace(text, m[0], "", 1)
		}
	}
	if strings.Contains(text, "\n") {
		text = "\n" + text
	}
	return strings.ReplaceAll(text, "\n", "\n  ")
}

// naming ends a hint with the socket, unless the text tells it already.
func naming(socket string, text string) string {
	if strings.Contains(text, socket) {
		return ""
	}
	return "; this was " + socket
}
