package command

import (
	"fmt"
	"math"
	"strings"
	"testing"
)

func TestValid(t *testing.T) {
	id := []byte("0123456789abcdef")
	secret := make([]byte, SecretHashBytes)
	agent := &Agent{Name: "h", Incarnation: 1}
	long := strings.Repeat("x", NameBytesMax+1)
	acquire := func(a *Acquire) *Command { return &Command{Session: id, Seq: 1, Kind: &Command_Acquire{a}} }
	open := func(o *Open) *Command { return &Command{Session: id, Seq: 1, Kind: &Command_Open{o}} }
	plain := func(p *PlainAcquire) *Command { return &Command{Kind: &Command_PlainAcquire{p}} }
	goodOpen := func() *Open {
		return &Open{SecretHash: secret, Agent: agent, TtlNanos: TTLNanosMin, Identity: "uid:1"}
	}
	with := func(change func(*Open)) *Command { o := goodOpen(); change(o); return open(o) }
	plainID := PlainID("o", "L")
	for name, c := range map[string]struct {
		c    *Command
		want string // the field that the complaint names; "": none
	}{
		"unknown kind":          {&Command{}, ""},
		"acquire":               {acquire(&Acquire{Lock: "a/b c", Metadata: []*Pair{{Key: "a"}, {Key: "b", Value: "x\ny"}}}), ""},
		"longest name":          {acquire(&Acquire{Lock: long[1:]}), ""},
		"name too long":         {acquire(&Acquire{Lock: long}), "lock"},
		"no name":               {acquire(&Acquire{}), "lock"},
		"control character":     {acquire(&Acquire{Lock: "a\nb"}), "lock"},
		"C1 control character":  {acquire(&Acquire{Lock: "a\u0085b"}), "lock"},
		"not UTF-8":             {acquire(&Acquire{Lock: "\xff"}), "lock"},
		"keys unsorted":         {acquire(&Acquire{Lock: "L", Metadata: []*Pair{{Key: "b"}, {Key: "a"}}}), "metadata"},
		"key twice":             {acquire(&Acquire{Lock: "L", Metadata: []*Pair{{Key: "a"}, {Key: "a"}}}), "metadata"},
		"no key":                {acquire(&Acquire{Lock: "L", Metadata: []*Pair{{}}}), "metadata"},
		"value not UTF-8":       {acquire(&Acquire{Lock: "L", Metadata: []*Pair{{Key: "a", Value: "\xff"}}}), "metadata"},
		"metadata too large":    {acquire(&Acquire{Lock: "L", Metadata: []*Pair{{Key: "a", Value: strings.Repeat("v", MetadataBytesMax)}}}), "metadata"},
		"session missing":       {&Command{Seq: 1, Kind: &Command_Acquire{&Acquire{Lock: "L"}}}, "session"},
		"session all zeros":     {&Command{Session: make([]byte, 16), Seq: 1, Kind: &Command_Acquire{&Acquire{Lock: "L"}}}, "session"},
		"sequence missing":      {&Command{Session: id, Kind: &Command_Acquire{&Acquire{Lock: "L"}}}, "seq"},
		"sequence too many":     {&Command{Session: id, Seq: 1, Kind: &Command_End{&End{}}}, "seq"},
		"singles too many":      {&Command{Session: id, AckAbove: make([]uint64, SinglesMax+1), Kind: &Command_End{&End{}}}, "ack_above"},
		"open":                  {open(goodOpen()), ""},
		"secret":                {with(func(o *Open) { o.SecretHash = nil }), "secret_hash"},
		"no agent":              {with(func(o *Open) { o.Agent = nil }), "agent"},
		"no incarnation":        {with(func(o *Open) { o.Agent = &Agent{Name: "h"} }), "agent"},
		"ttl missing":           {with(func(o *Open) { o.TtlNanos = 0 }), "ttl_nanos"},
		"ttl too long":          {with(func(o *Open) { o.TtlNanos = TTLNanosMax + 1 }), "ttl_nanos"},
		"boot id too long":      {with(func(o *Open) { o.Process = &Process{BootId: long[:BootIDBytesMax+1]} }), "boot_id"},
		"identity missing":      {with(func(o *Open) { o.Identity = "" }), "identity"},
		"resume":                {&Command{Session: id, Seq: 1, Kind: &Command_Resume{&Resume{SecretHash: secret, Agent: agent}}}, ""},
		"set ttl":               {&Command{Session: id, Seq: 1, Kind: &Command_SetTtl{&SetTTL{}}}, "ttl_nanos"},
		"release of nothing":    {&Command{Session: id, Kind: &Command_Release{&Release{}}}, "hold"},
		"cancel of nothing":     {&Command{Session: id, Kind: &Command_Cancel{&Cancel{}}}, "target"},
		"acknowledge":           {&Command{Session: id, Kind: &Command_Acknowledge{&Acknowledge{}}}, ""},
		"join":                  {&Command{Session: id, Kind: &Command_Join{&Join{SecretHash: secret}}}, "process"},
		"reconcile nothing":     {&Command{Session: id, Kind: &Command_Reconcile{&Reconcile{}}}, ""},
		"reconcile":             {&Command{Session: id, Kind: &Command_Reconcile{&Reconcile{Next: 3, Named: []*Belief{{Seq: 1}, {Seq: 2}}}}}, ""},
		"reconcile unsorted":    {&Command{Session: id, Kind: &Command_Reconcile{&Reconcile{Next: 3, Named: []*Belief{{Seq: 2}, {Seq: 1}}}}}, "named"},
		"reconcile zero":        {&Command{Session: id, Kind: &Command_Reconcile{&Reconcile{Next: 3, Named: []*Belief{{}}}}}, "named"},
		"reconcile above next":  {&Command{Session: id, Kind: &Command_Reconcile{&Reconcile{Next: 3, Named: []*Belief{{Seq: 3}}}}}, "named"},
		"reconcile too many":    {&Command{Session: id, Kind: &Command_Reconcile{&Reconcile{Named: make([]*Belief, NamedMax+1)}}}, "named"},
		"establish":             {&Command{Kind: &Command_Establish{&Establish{ClusterId: "c"}}}, ""},
		"establish no cluster":  {&Command{Kind: &Command_Establish{&Establish{}}}, "cluster_id"},
		"establish for session": {&Command{Session: id, Kind: &Command_Establish{&Establish{ClusterId: "c"}}}, "session"},
		"revoke":                {&Command{Kind: &Command_Revoke{&Revoke{Lock: "L"}}}, ""},
		"revoke by whom":        {&Command{Kind: &Command_Revoke{&Revoke{Lock: "L", By: long}}}, "by"},
		"plain":                 {plain(&PlainAcquire{Owner: "o", Lock: "L", TtlNanos: TTLNanosMin, Identity: "i"}), ""},
		"plain without owner":   {plain(&PlainAcquire{Lock: "L", TtlNanos: TTLNanosMin, Identity: "i"}), "owner"},
		"plain named":           {&Command{Session: plainID[:], Kind: &Command_PlainRelease{&PlainRelease{Owner: "o", Lock: "L"}}}, ""},
		"plain named wrongly":   {&Command{Session: id, Kind: &Command_PlainRelease{&PlainRelease{Owner: "o", Lock: "L"}}}, "session"},
		"plain attached":        {&Command{Attachment: 1, Kind: &Command_PlainRelease{&PlainRelease{Owner: "o", Lock: "L"}}}, "attachment"},
		"plain sequence":        {&Command{Seq: 1, Kind: &Command_PlainRelease{&PlainRelease{Owner: "o", Lock: "L"}}}, "seq"},
		"plain renew":           {&Command{Kind: &Command_PlainRenew{&PlainRenew{Owner: "o", Lock: "L"}}}, "ttl_nanos"},
		"plain cancel":          {&Command{Kind: &Command_PlainCancel{&PlainCancel{Owner: "o", Lock: "L"}}}, "request_id"},
		"plain request id":      {plain(&PlainAcquire{Owner: "o", Lock: "L", TtlNanos: TTLNanosMin, Identity: "i", RequestId: "\x01"}), "request_id"},
	} {
		t.Run(name, func(t *testing.T) {
			got := Valid(c.c)
			if (got == "") != (c.want == "") || !strings.HasPrefix(got, c.want) {
				t.Errorf("got %q, want it to start with %q", got, c.want)
			}
		})
	}
}

// TestKindVersion: every kind of the oneof has a version.
func TestKindVersion(t *testing.T) {
	kinds := (&Command{}).ProtoReflect().Descriptor().Oneofs().ByName("kind").Fields()
	for i := range kinds.Len() {
		var c Command
		m := c.ProtoReflect()
		m.Set(kinds.Get(i), m.NewField(kinds.Get(i)))
		if v := KindVersion(&c); v != 1 {
			t.Errorf("%s: version %d", kinds.Get(i).Name(), v)
		}
		Valid(&c) // an empty one of each must not panic
	}
	if KindVersion(&Command{}) != math.MaxUint32 {
		t.Error("an unknown kind has a version")
	}
}

func TestPlainID(t *testing.T) {
	if PlainID("a", "bc") == PlainID("ab", "c") {
		t.Error("owner and lock run into each other")
	}
	// Logs and snapshots hold these ids: they never change.
	if got := fmt.Sprintf("%x", PlainID("alice", "L")); got != "075526a015c5011d389e6ec25da5ecac" {
		t.Errorf("got %s", got)
	}
}
