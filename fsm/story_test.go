package fsm

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/raftlock/raftlock/fsm/command"
)

var update = flag.Bool("update", false, "rewrite the stories with what the state machine does now")

// TestStories replays the scripts of testdata: a command a line, and below it,
// indented, its answer and its events. Check runs after every command.
func TestStories(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no stories", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := newStory(t).replay(string(text))
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			compareStory(t, string(text), got)
		})
	}
}

func compareStory(t *testing.T, want, got string) {
	t.Helper()
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	for i := range min(len(w), len(g)) {
		if w[i] != g[i] {
			t.Fatalf("line %d:\n want %q\n got  %q", i+1, w[i], g[i])
		}
	}
	if len(w) != len(g) {
		t.Fatalf("%d lines, want %d", len(g), len(w))
	}
}

type story struct {
	t     *testing.T
	s     *State
	term  uint64
	made  uint64 // the term entries are made in; 0: the log's
	names map[ID]string
	out   strings.Builder
}

func newStory(t *testing.T) *story {
	return &story{t: t, s: New(), term: 1, names: map[ID]string{}}
}

func (y *story) replay(text string) string {
	for _, line := range strings.Split(strings.TrimRight(text, "\n"), "\n") {
		if strings.HasPrefix(line, "  ") {
			continue
		}
		fmt.Fprintln(&y.out, line)
		if line != "" && !strings.HasPrefix(line, "#") {
			y.line(strings.Fields(line))
		}
	}
	return y.out.String()
}

func (y *story) say(format string, args ...any) { fmt.Fprintf(&y.out, "  "+format+"\n", args...) }

func (y *story) line(f []string) {
	y.t.Helper()
	switch f[0] {
	case "term":
		y.term = num(f[1])
	case "made-in":
		y.made = num(f[1])
		y.line(f[2:])
		y.made = 0
	case "again":
		o := y.s.Apply(y.s.Index(), y.term, nil)
		y.say("void=%v", o.Void)
	case "snapshot":
		y.snapshot()
	case "show":
		y.show()
	case "settled":
		r, ok := y.s.Settled(y.parse(f[1:]))
		if !ok {
			y.say("no")
			return
		}
		y.result(r)
	default:
		y.apply(y.parse(f))
	}
}

func (y *story) apply(cs ...*command.Command) {
	y.t.Helper()
	made := y.made
	if made == 0 {
		made = y.term
	}
	o := y.s.Apply(y.s.Index()+1, y.term, marshal(y.t, made, cs...))
	if o.Void {
		y.say("VOID")
	}
	for i, r := range o.Results {
		for _, e := range o.Events[i] {
			y.event(e)
		}
		y.result(r)
	}
	if err := y.s.Check(); err != nil {
		y.t.Fatalf("after %v: %v", cs, err)
	}
}

func marshal(t testing.TB, term uint64, cs ...*command.Command) []byte {
	t.Helper()
	data, err := proto.Marshal(&command.Entry{Format: command.FormatEntry, Term: term, Commands: cs})
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// snapshot puts a restored state in the place of the one that was snapshot.
func (y *story) snapshot() {
	y.t.Helper()
	y.s = restored(y.t, y.s)
}

// restored takes s through a snapshot, which must lose nothing.
func restored(t testing.TB, s *State) *State {
	t.Helper()
	var first, second bytes.Buffer
	if err := s.View().Snapshot(&first); err != nil {
		t.Fatal(err)
	}
	again, err := Restore(bytes.NewReader(first.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	if again.Hash() != s.Hash() {
		t.Fatalf("restored hash %x, want %x", again.Hash(), s.Hash())
	}
	if err := again.View().Snapshot(&second); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Fatal("the snapshot of a restored state differs")
	}
	return again
}

// show prints every lock with its queue.
func (y *story) show() {
	v := y.s.View()
	page, _ := v.List(Filter{})
	for _, l := range page {
		line := fmt.Sprintf("%s: %s/%d token=%d", l.Lock, y.name(ID(l.Holder.Session)), l.Seq, l.Holder.Token)
		if l.Revoked {
			line += " revoked"
		}
		v.queue.Ascend(queueStart(l.Lock), func(u *use) bool {
			if u.lock != l.Lock {
				return false
			}
			line += fmt.Sprintf(" <- %s/%d", y.name(u.session), u.seq)
			return true
		})
		y.say("%s", line)
	}
	if len(page) == 0 {
		y.say("no locks")
	}
}

func num(s string) uint64 {
	n, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		panic(err)
	}
	return n
}

func sessionID(name string) ID {
	sum := sha256.Sum256([]byte("session " + name))
	return ID(sum[:16])
}

func secretOf(s string) []byte {
	sum := sha256.Sum256([]byte("secret " + s))
	return sum[:]
}

func (y *story) id(name string) []byte {
	id := sessionID(name)
	y.names[id] = name
	return id[:]
}

func (y *story) name(id ID) string {
	if n, ok := y.names[id]; ok {
		return n
	}
	if i, ok := y.s.Session(id); ok && i.Plain {
		y.names[id] = i.Owner + "@" + i.Lock
		return y.names[id]
	}
	return hex.EncodeToString(id[:4])
}

// options are the key=value words of a line; the rest are its arguments.
func options(f []string) (args []string, opt map[string]string) {
	opt = map[string]string{}
	for _, w := range f {
		if k, v, ok := strings.Cut(w, "="); ok {
			opt[k] = v
		} else {
			args = append(args, w)
		}
	}
	return args, opt
}

func or(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

func nanos(s string) uint64 {
	d, err := time.ParseDuration(s)
	if err != nil {
		panic(err)
	}
	return uint64(d)
}

func (y *story) parse(f []string) *command.Command {
	a, opt := options(f[1:])
	has := func(word string) bool {
		for _, w := range a {
			if w == word {
				return true
			}
		}
		return false
	}
	c := &command.Command{}
	session := func() {
		c.Session = y.id(a[0])
		if i, ok := y.s.Session(ID(c.Session)); ok {
			c.Attachment = i.Attachment
		}
		if v, ok := opt["att"]; ok {
			c.Attachment = num(v)
		}
		for i, v := range strings.Split(opt["ack"], ",") {
			if v != "" && i == 0 {
				c.AckMark = num(v)
			} else if v != "" {
				c.AckAbove = append(c.AckAbove, num(v))
			}
		}
		c.Seq = num(or(opt["seq"], "0"))
	}
	agent := func() *command.Agent {
		return &command.Agent{Name: or(opt["agent"], "h1"), Incarnation: num(or(opt["inc"], "11"))}
	}
	process := func(id string) *command.Process {
		if id == "" {
			return nil
		}
		return &command.Process{
			Id: num(id), Pid: int32(num(or(opt["pid"], "0"))), StartTicks: num(or(opt["start"], "0")), BootId: opt["boot"],
			PidNamespace: num(or(opt["ns"], "0")), PidfdInode: num(or(opt["inode"], "0")),
		}
	}
	var metadata []*command.Pair
	if m := opt["meta"]; m != "" {
		for _, kv := range strings.Split(m, ",") {
			k, v, _ := strings.Cut(kv, ":")
			metadata = append(metadata, &command.Pair{Key: k, Value: v})
		}
	}
	priority := func() int32 {
		n, err := strconv.Atoi(or(opt["prio"], "0"))
		if err != nil {
			panic(err)
		}
		return int32(n)
	}
	switch f[0] {
	case "establish":
		c.Kind = &command.Command_Establish{Establish: &command.Establish{ClusterId: a[0], ServerId: "s1"}}
	case "open":
		session()
		c.Attachment, c.Seq = 0, num(or(opt["seq"], "1"))
		c.Kind = &command.Command_Open{Open: &command.Open{
			SecretHash: secretOf(or(opt["secret"], a[0])), Agent: agent(), TtlNanos: nanos(or(opt["ttl"], "10s")),
			Process: process(opt["process"]), LeaseOnExit: has("lease-on-exit"), Identity: or(opt["identity"], "uid:1000"),
		}}
	case "resume":
		session()
		c.Attachment = 0
		c.Kind = &command.Command_Resume{Resume: &command.Resume{
			SecretHash: secretOf(or(opt["secret"], a[0])), Agent: agent(), Process: process(opt["process"]),
		}}
	case "ttl":
		session()
		c.Seq = num(a[1])
		c.Kind = &command.Command_SetTtl{SetTtl: &command.SetTTL{TtlNanos: nanos(a[2])}}
	case "acquire":
		session()
		c.Seq = num(a[1])
		c.Kind = &command.Command_Acquire{Acquire: &command.Acquire{Lock: a[2], Try: has("try"), Priority: priority(), Metadata: metadata}}
	case "release":
		session()
		c.Kind = &command.Command_Release{Release: &command.Release{Hold: num(a[1]), Token: num(a[2]), Lost: has("lost")}}
	case "cancel":
		session()
		c.Kind = &command.Command_Cancel{Cancel: &command.Cancel{Target: num(a[1])}}
	case "end":
		session()
		reason := command.EndReason(command.EndReason_value["END_REASON_"+strings.ToUpper(or(opt["reason"], "closed"))])
		c.Kind = &command.Command_End{End: &command.End{Reason: reason}}
	case "reconcile":
		session()
		r := &command.Reconcile{Next: num(a[1])}
		for _, w := range a[2:] {
			seq, token, _ := strings.Cut(w, ":")
			r.Named = append(r.Named, &command.Belief{Seq: num(seq), Token: num(or(token, "0"))})
		}
		c.Kind = &command.Command_Reconcile{Reconcile: r}
	case "ack":
		session()
		c.Kind = &command.Command_Acknowledge{Acknowledge: &command.Acknowledge{}}
	case "join":
		session()
		c.Attachment = 0
		c.Kind = &command.Command_Join{Join: &command.Join{SecretHash: secretOf(or(opt["secret"], a[0])), Process: process(a[1])}}
	case "leave":
		session()
		c.Kind = &command.Command_Leave{Leave: &command.Leave{Process: num(a[1])}}
	case "revoke":
		c.Kind = &command.Command_Revoke{Revoke: &command.Revoke{Lock: a[0], Token: num(or(opt["token"], "0")), Now: has("now"), By: "op"}}
	case "plain-acquire":
		c.Kind = &command.Command_PlainAcquire{PlainAcquire: &command.PlainAcquire{
			Owner: a[0], Lock: a[1], TtlNanos: nanos(or(opt["ttl"], "10s")), RequestId: opt["id"], Priority: priority(),
			Metadata: metadata, Identity: or(opt["identity"], "uid:1000"),
		}}
	case "plain-renew":
		c.Kind = &command.Command_PlainRenew{PlainRenew: &command.PlainRenew{
			Owner: a[0], Lock: a[1], Token: num(a[2]), TtlNanos: nanos(or(opt["ttl"], "10s")),
		}}
	case "plain-release":
		c.Kind = &command.Command_PlainRelease{PlainRelease: &command.PlainRelease{Owner: a[0], Lock: a[1], Token: num(a[2])}}
	case "plain-cancel":
		c.Kind = &command.Command_PlainCancel{PlainCancel: &command.PlainCancel{Owner: a[0], Lock: a[1], RequestId: a[2]}}
	case "plain-end", "plain-lose":
		id := PlainID(a[0], a[1])
		c.Session = id[:]
		c.Kind = &command.Command_End{End: &command.End{Reason: command.EndReason_END_REASON_EXPIRED}}
		if f[0] == "plain-lose" {
			c.Kind = &command.Command_Release{Release: &command.Release{Hold: num(a[2]), Token: num(a[3])}}
		}
	case "jump":
		c.Kind = &command.Command_JumpTokens{JumpTokens: &command.JumpTokens{UnixSeconds: num(a[0])}}
	case "version":
		c.Kind = &command.Command_SetVersion{SetVersion: &command.SetVersion{Version: uint32(num(a[0]))}}
	case "unknown":
	default:
		y.t.Fatalf("no such word: %v", f)
	}
	return c
}

func (y *story) result(r *command.Result) {
	line := strings.TrimPrefix(r.Code.String(), "CODE_")
	if r.Attachment != 0 {
		line += fmt.Sprintf(" attachment=%d incarnation=%d", r.Attachment, r.Incarnation)
	}
	if r.TtlNanos != 0 {
		line += " ttl=" + time.Duration(r.TtlNanos).String()
	}
	if h := r.Holder; h != nil {
		line += fmt.Sprintf(" holder=%s owner=%q agent=%q token=%d", y.name(ID(h.Session)), h.Owner, h.Agent, h.Token)
	}
	for _, st := range r.Standings {
		line += " [" + standingText(st) + "]"
	}
	for _, a := range r.Answered {
		line += fmt.Sprintf(" (%d: %s)", a.Seq, strings.TrimPrefix(a.Result.Code.String(), "CODE_"))
	}
	if r.Detail != "" {
		line += " # " + r.Detail
	}
	y.say("%s", line)
}

func standingText(st *command.Standing) string {
	line := fmt.Sprintf("%d %s", st.Seq, strings.ToLower(strings.TrimPrefix(st.State.String(), "STATE_")))
	if st.Lock != "" {
		line += " " + st.Lock
	}
	if st.Token != 0 {
		line += fmt.Sprintf(" token=%d", st.Token)
	}
	if st.Position != 0 {
		line += fmt.Sprintf(" position=%d", st.Position)
	}
	if st.Revoked {
		line += " revoked"
	}
	if st.Gone != 0 {
		line += " " + strings.ToLower(strings.TrimPrefix(st.Gone.String(), "GONE_"))
	}
	return line
}

var eventNames = map[EventKind]string{
	EventOpened: "opened", EventResumed: "resumed", EventTTL: "ttl", EventRenewed: "renewed",
	EventGranted: "granted", EventGone: "gone", EventRevoked: "revoked", EventEnded: "ended",
}

func (y *story) event(e Event) {
	line := fmt.Sprintf("* %s %s", eventNames[e.Kind], y.name(e.Session))
	fields := map[string]uint64{"attachment": e.Attachment, "incarnation": e.Incarnation, "was": e.WasAttachment,
		"was-incarnation": e.WasIncarnation, "seq": e.Seq, "token": e.Token}
	keys := make([]string, 0, len(fields))
	for k, v := range fields {
		if v != 0 {
			keys = append(keys, k)
		}
	}
	sort.Strings(keys)
	for _, k := range keys {
		line += fmt.Sprintf(" %s=%d", k, fields[k])
	}
	if e.Lock != "" {
		line += " " + e.Lock
	}
	if e.TTLNanos != 0 {
		line += " ttl=" + time.Duration(e.TTLNanos).String()
	}
	if e.Gone != 0 {
		line += " " + strings.ToLower(strings.TrimPrefix(e.Gone.String(), "GONE_"))
	}
	if e.Reason != 0 {
		line += " " + strings.ToLower(strings.TrimPrefix(e.Reason.String(), "END_REASON_"))
	}
	y.say("%s", line)
}
