package raftlock

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

func somePass() (p Pass) {
	for i := range p.id {
		p.id[i] = byte(0xa0 + i)
	}
	for i := range p.secret {
		p.secret[i] = byte(0x40 + i)
	}
	return p
}

func TestPassIsPrintedWithoutItsSecret(t *testing.T) {
	p := somePass()
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "pass", p, "pointer", &p)
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "pass", p, "pointer", &p)
	text, err := json.Marshal(map[string]any{"pass": p})
	if err != nil {
		t.Fatal(err)
	}
	printed := []string{p.String(), log.String(), string(text)}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%o", "%c"} {
		printed = append(printed, fmt.Sprintf(verb, p), fmt.Sprintf(verb, &p), fmt.Sprintf(verb, []Pass{p}), fmt.Sprintf(verb, struct{ P Pass }{p}))
	}
	for _, text := range printed {
		for _, secret := range []string{hex.EncodeToString(p.secret[:4]), string(p.secret[:4]), "64 65 66", p.Encode()[30:]} {
			if strings.Contains(strings.ToLower(text), strings.ToLower(secret)) {
				t.Errorf("%q tells the secret", text)
			}
		}
	}
	if want := "pass of session " + p.Session(); p.String() != want {
		t.Errorf("%q, want %q", p, want)
	}
}

func TestPassEncodes(t *testing.T) {
	p := somePass()
	if got, err := ParsePass(" " + p.Encode() + "\n"); err != nil || got != p {
		t.Errorf("%v, %v", got, err)
	}
	word := p.Encode()
	for name, text := range map[string]string{
		"empty": "", "other form": "raftlock2" + word[9:], "short": word[:len(word)-1], "long": word + "A",
		"longer": word + "AAAA", "hex": hex.EncodeToString(p.secret[:]), "inner space": word[:20] + " " + word[20:],
		"loose bits": word[:len(word)-1] + "~",
	} {
		t.Run(name, func(t *testing.T) {
			_, err := ParsePass(text)
			if !errors.Is(err, ErrInvalid) {
				t.Fatalf("%v", err)
			}
			if len(text) > 20 && strings.Contains(err.Error(), text[10:20]) {
				t.Errorf("%v repeats the text", err)
			}
		})
	}
}

func FuzzParsePass(f *testing.F) {
	f.Add(somePass().Encode())
	f.Fuzz(func(t *testing.T, text string) {
		p, err := ParsePass(text)
		if err == nil && p.Encode() != strings.TrimSpace(text) {
			t.Errorf("%q became %q", text, p.Encode())
		}
	})
}
