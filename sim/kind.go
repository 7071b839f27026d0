package sim

import (
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	api "github.com/raftlock/raftlock/api/raftlock/v1"
	"github.com/raftlock/raftlock/link/linkpb"
)

// kindOf names a message by the members of its oneofs: "propose/acquire",
// "notice/standing", "founding/promise"; a message without one by its type.
func kindOf(m proto.Message) string {
	if kind := commonKind(m); kind != "" {
		return kind
	}
	r := m.ProtoReflect()
	if kind := oneofPath(r); kind != "" {
		return kind[1:]
	}
	return string(r.Descriptor().Name())
}

// commonKind is kindOf for what is sent most, without reflection.
func commonKind(m proto.Message) string {
	switch m := m.(type) {
	case *linkpb.Up:
		if m.GetBeat() != nil {
			return "beat"
		}
	case *linkpb.Down:
		switch m.Frame.(type) {
		case *linkpb.Down_Beat:
			return "beat"
		case *linkpb.Down_Proposed:
			return "proposed"
		case *linkpb.Down_Query:
			return "query"
		}
	case *linkpb.Question:
		if m.GetTerm() != nil {
			return "term"
		}
	case *api.SessionRequest:
		if m.GetBeat() != nil {
			return "beat"
		}
	case *api.SessionResponse:
		if m.GetLease() != nil {
			return "lease"
		}
	}
	return ""
}

func oneofPath(m protoreflect.Message) string {
	oneofs := m.Descriptor().Oneofs()
	for i := range oneofs.Len() {
		if f := m.WhichOneof(oneofs.Get(i)); f != nil && !oneofs.Get(i).IsSynthetic() {
			return "/" + string(f.Name()) + inner(m, f)
		}
	}
	// A proposal is named by its command.
	if f := m.Descriptor().Fields().ByName("command"); f != nil && m.Has(f) {
		return inner(m, f)
	}
	return ""
}

func inner(m protoreflect.Message, f protoreflect.FieldDescriptor) string {
	if f.Message() == nil || f.IsList() || f.IsMap() {
		return ""
	}
	return oneofPath(m.Get(f).Message())
}

func clone[M proto.Message](m M) M { return proto.Clone(m).(M) }
