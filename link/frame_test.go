package link

import (
	"errors"
	"testing"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/raftlock/raftlock/fsm/command"
	"github.com/raftlock/raftlock/link/linkpb"
)

func propose(c *command.Command) *Up {
	return &Up{Frame: &linkpb.Up_Propose{Propose: &linkpb.Propose{Command: c}}}
}

func notice(n *linkpb.Notice) *Down { return &Down{Frame: &linkpb.Down_Notice{Notice: n}} }

func TestCheck(t *testing.T) {
	id := make([]byte, 16)
	for name, c := range map[string]struct {
		err   error
		valid bool
	}{
		"beat":                   {CheckUp(beat(1)), true},
		"nil frame":              {CheckUp(nil), false},
		"empty frame":            {CheckUp(&Up{}), false},
		"nil beat":               {CheckUp(&Up{Frame: &linkpb.Up_Beat{}}), false},
		"long exception":         {CheckUp(&Up{Frame: &linkpb.Up_Beat{Beat: &linkpb.Beat{Except: [][]byte{id, make([]byte, 17)}}}}), false},
		"no command":             {CheckUp(propose(nil)), false},
		"unknown kind":           {CheckUp(propose(&command.Command{Session: id})), true},
		"no session":             {CheckUp(propose(&command.Command{})), true},
		"short session":          {CheckUp(propose(&command.Command{Session: id[1:]})), false},
		"empty query":            {CheckUp(&Up{Frame: &linkpb.Up_Query{Query: &linkpb.Query{}}}), false},
		"query":                  {CheckUp(&Up{Frame: &linkpb.Up_Query{Query: &linkpb.Query{Query: &linkpb.Query_Get{}}}}), true},
		"nil frame down":         {CheckDown(nil), false},
		"beat answer":            {CheckDown(beatAnswer(1)), true},
		"applied, no result":     {CheckDown(&Down{Frame: &linkpb.Down_Proposed{Proposed: &linkpb.Proposed{Outcome: linkpb.Proposed_OUTCOME_APPLIED}}}), false},
		"queue full":             {CheckDown(&Down{Frame: &linkpb.Down_Proposed{Proposed: &linkpb.Proposed{Outcome: linkpb.Proposed_OUTCOME_QUEUE_FULL}}}), true},
		"empty notice":           {CheckDown(notice(&linkpb.Notice{Session: id})), false},
		"notice":                 {CheckDown(notice(&linkpb.Notice{Session: id, Notice: &linkpb.Notice_Moved{Moved: true}})), true},
		"notice of no session":   {CheckDown(notice(&linkpb.Notice{Notice: &linkpb.Notice_Moved{Moved: true}})), false},
		"query answer":           {CheckDown(&Down{Frame: &linkpb.Down_Query{Query: &linkpb.QueryAnswer{}}}), true},
		"nil question":           {CheckQuestion(nil), false},
		"question":               {CheckQuestion(question()), true},
		"question of long name":  {CheckQuestion(&linkpb.Question{From: string(make([]byte, 256))}), false},
		"members":                {CheckQuestion(&linkpb.Question{Question: &linkpb.Question_Members{Members: &linkpb.Members{}}}), true},
		"members of nothing":     {CheckQuestion(&linkpb.Question{Question: &linkpb.Question_Members{}}), false},
		"founding of nothing":    {CheckQuestion(&linkpb.Question{Question: &linkpb.Question_Founding{Founding: &linkpb.Founding{}}}), false},
		"founding":               {CheckQuestion(&linkpb.Question{Question: &linkpb.Question_Founding{Founding: &linkpb.Founding{Founding: &linkpb.Founding_Start{}}}}), true},
		"nil hello":              {CheckHello(nil), false},
		"hello":                  {CheckHello(hello()), true},
		"hello, versions turned": {CheckHello(&linkpb.Hello{VersionMin: 2, VersionMax: 1}), false},
		"hello, no incarnation":  {CheckHello(&linkpb.Hello{VersionMin: 1, VersionMax: 1, Agent: "a"}), false},
		"hello, no name":         {CheckHello(&linkpb.Hello{VersionMin: 1, VersionMax: 1, Incarnation: 1}), false},
		"hello, long cluster":    {CheckHello(&linkpb.Hello{VersionMin: 1, VersionMax: 1, Incarnation: 1, Agent: "a", ClusterId: string(make([]byte, 256))}), false},
	} {
		t.Run(name, func(t *testing.T) {
			if (c.err == nil) != c.valid || c.err != nil && !errors.Is(c.err, ErrInvalid) {
				t.Error(c.err)
			}
		})
	}
}

func TestVersion(t *testing.T) {
	for _, c := range []struct {
		name       string
		low, high  uint32
		want       uint32
		acceptable bool
	}{
		{"the same", 1, 1, 1, true},
		{"newer too", 1, 9, 1, true},
		{"newer only", 2, 9, 1, false},
		{"older only", 0, 0, 0, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, ok := Version(&linkpb.Hello{VersionMin: c.low, VersionMax: c.high})
			if got != c.want || ok != c.acceptable {
				t.Errorf("got %d, %v", got, ok)
			}
		})
	}
}

func TestSplit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var frames []*Up
		for range rapid.IntRange(0, 12).Draw(t, "groups") {
			f := large(rapid.IntRange(0, 1<<21).Draw(t, "bytes"))
			for range rapid.IntRange(1, 2000).Draw(t, "small") {
				frames = append(frames, beat(uint64(len(frames))))
			}
			frames = append(frames, f)
		}
		batches, err := split(frames)
		if err != nil {
			t.Fatal(err)
		}
		next := 0
		for _, b := range batches {
			if len(b) == 0 || len(b) > FramesMax || proto.Size(&linkpb.UpBatch{Frames: b}) > MessageBytesMax {
				t.Fatalf("a batch of %d", len(b))
			}
			for _, f := range b {
				if f != frames[next] {
					t.Fatal("out of order")
				}
				next++
			}
		}
		if next != len(frames) {
			t.Fatalf("%d of %d", next, len(frames))
		}
	})
}

// FuzzCheck: whatever decodes is either refused or safe to look at.
func FuzzCheck(f *testing.F) {
	for _, m := range []proto.Message{
		&linkpb.UpBatch{Hello: hello()}, &linkpb.UpBatch{Frames: []*Up{beat(1), {}, propose(nil)}},
		&linkpb.DownBatch{Frames: []*Down{beatAnswer(1), notice(&linkpb.Notice{})}}, question(),
	} {
		b, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		up, down, q := &linkpb.UpBatch{}, &linkpb.DownBatch{}, &linkpb.Question{}
		if proto.Unmarshal(b, up) == nil && CheckHello(up.Hello) == nil && (up.Hello.Agent == "" || up.Hello.Incarnation == 0) {
			t.Error("a hello of nobody passed")
		}
		if proto.Unmarshal(b, up) == nil && checkBatch(up.Frames, up.Hello != nil, CheckUp) == nil {
			for _, f := range up.Frames {
				for _, id := range f.GetBeat().GetExcept() {
					_ = [16]byte(id)
				}
				if f.Frame == nil {
					t.Errorf("%v passed", f)
				}
			}
		}
		if proto.Unmarshal(b, down) == nil && checkBatch(down.Frames, down.Welcome != nil, CheckDown) == nil {
			for _, f := range down.Frames {
				if n := f.GetNotice(); n != nil {
					_ = [16]byte(n.Session)
				}
				if f.Frame == nil {
					t.Errorf("%v passed", f)
				}
			}
		}
		if proto.Unmarshal(b, q) == nil && CheckQuestion(q) == nil && q.Question == nil {
			t.Errorf("%v passed", q)
		}
	})
}
