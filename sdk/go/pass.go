package raftlock

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"strings"
)

// Pass lets another process join a session: its id and its secret. Whoever has
// it may keep the session alive, so it is a secret: hand it over by an inherited
// pipe or a file of the same user, never as an argument or in the environment,
// where others can read it. It prints without the secret; Encode is the only
// way to have it as text.
type Pass struct {
	id     [16]byte
	secret [32]byte
}

// passPrefix names the form, so that another may come.
const passPrefix = "raftlock1."

// Pass returns what another process of this host needs to join the session.
func (s *Session) Pass() Pass {
	return Pass{id: [16]byte(s.id), secret: [32]byte(s.secret)}
}

// Encode writes the pass as one word of ASCII letters, digits and "-_.". The
// word is as secret as the pass.
func (p Pass) Encode() string {
	return passPrefix + base64.RawURLEncoding.EncodeToString(append(p.id[:], p.secret[:]...))
}

// ParsePass reads what Encode wrote, white space around it left out. Errors
// (ErrInvalid) never repeat the text.
func ParsePass(text string) (Pass, error) {
	word, found := strings.CutPrefix(strings.TrimSpace(text), passPrefix)
	both, err := base64.RawURLEncoding.Strict().DecodeString(word)
	var p Pass
	if !found || err != nil || len(both) != len(p.id)+len(p.secret) {
		return Pass{}, fmt.Errorf("parse a pass: %w", invalid("it is not the whole of one"))
	}
	copy(p.id[:], both)
	copy(p.secret[:], both[len(p.id):])
	return p, nil
}

// Session is the session's id in hex, which is no secret.
func (p Pass) Session() string { return hex.EncodeToString(p.id[:]) }

// String names the session and leaves the secret out.
func (p Pass) String() string { return "pass of session " + p.Session() }

// Format writes String, whatever the verb: none prints the secret.
func (p Pass) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, p.String()) }
