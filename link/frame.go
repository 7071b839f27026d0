package link

import (
	"errors"
	"fmt"

	"github.com/raftlock/raftlock/link/linkpb"
)

// ErrInvalid is wrapped by the errors of the Check functions and of the Recv
// that met such a frame: a mistake of the other end, or of another version.
// Sending the same again does not help.
var ErrInvalid = errors.New("invalid frame")

const nameBytesMax = 255

// Version is the newest version that both ends speak, for a Handler's Admit.
func Version(h *linkpb.Hello) (version uint32, ok bool) {
	version = min(h.GetVersionMax(), VersionMax)
	return version, version >= max(h.GetVersionMin(), VersionMin)
}

// CheckHello says why a hello is malformed. Whether it is welcome is for the
// Handler.
func CheckHello(h *linkpb.Hello) error {
	switch {
	case h == nil:
		return fmt.Errorf("%w: no hello", ErrInvalid)
	case h.VersionMin == 0 || h.VersionMin > h.VersionMax:
		return fmt.Errorf("%w: hello with versions %d to %d", ErrInvalid, h.VersionMin, h.VersionMax)
	case h.Incarnation == 0:
		return fmt.Errorf("%w: hello without an incarnation", ErrInvalid)
	case len(h.Agent) == 0 || len(h.Agent) > nameBytesMax:
		return fmt.Errorf("%w: hello with an agent's name of %d bytes", ErrInvalid, len(h.Agent))
	case len(h.ClusterId) > nameBytesMax:
		return fmt.Errorf("%w: hello with a cluster id of %d bytes", ErrInvalid, len(h.ClusterId))
	}
	return nil
}

// CheckUp says why a frame must not be sent up. What a command holds beside its
// session's id is for the state machine, which answers: a kind that this build
// does not know must not cost the link.
func CheckUp(f *Up) error {
	switch f := f.GetFrame().(type) {
	case *linkpb.Up_Beat:
		for _, id := range f.Beat.GetExcept() {
			if err := checkID("beat", id); err != nil {
				return err
			}
		}
		return present(f.Beat, "beat")
	case *linkpb.Up_Propose:
		if f.Propose.GetCommand() == nil {
			return fmt.Errorf("%w: proposal without a command", ErrInvalid)
		}
		if id := f.Propose.Command.Session; len(id) > 0 {
			return checkID("command", id)
		}
		return nil
	case *linkpb.Up_Query:
		if f.Query.GetQuery() == nil {
			return fmt.Errorf("%w: query for nothing", ErrInvalid)
		}
		return nil
	}
	return fmt.Errorf("%w: nothing in a frame up", ErrInvalid)
}

// CheckDown says why a frame must not be sent down.
func CheckDown(f *Down) error {
	switch f := f.GetFrame().(type) {
	case *linkpb.Down_Beat:
		return present(f.Beat, "beat answer")
	case *linkpb.Down_Proposed:
		if f.Proposed.GetOutcome() == linkpb.Proposed_OUTCOME_APPLIED && f.Proposed.Result == nil {
			return fmt.Errorf("%w: applied without a result", ErrInvalid)
		}
		return present(f.Proposed, "answer to a proposal")
	case *linkpb.Down_Notice:
		if f.Notice.GetNotice() == nil {
			return fmt.Errorf("%w: notice of nothing", ErrInvalid)
		}
		return checkID("notice", f.Notice.Session)
	case *linkpb.Down_Query:
		return present(f.Query, "answer to a query")
	}
	return fmt.Errorf("%w: nothing in a frame down", ErrInvalid)
}

// CheckQuestion says why a question must not be answered.
func CheckQuestion(q *linkpb.Question) error {
	if len(q.GetFrom()) > nameBytesMax {
		return fmt.Errorf("%w: question from a name of %d bytes", ErrInvalid, len(q.From))
	}
	switch q := q.GetQuestion().(type) {
	case *linkpb.Question_Term:
		return present(q.Term, "question")
	case *linkpb.Question_Founding:
		if q.Founding.GetFounding() != nil {
			return nil
		}
	case *linkpb.Question_Members:
		return present(q.Members, "question")
	case *linkpb.Question_Read:
		return present(q.Read, "question")
	}
	return fmt.Errorf("%w: nothing in a question", ErrInvalid)
}

func checkID(of string, id []byte) error {
	if len(id) != 16 {
		return fmt.Errorf("%w: %s with a session id of %d bytes", ErrInvalid, of, len(id))
	}
	return nil
}

// present refuses a nil message inside a oneof, which no decoder makes but a
// caller can.
func present[T any](m *T, what string) error {
	if m == nil {
		return fmt.Errorf("%w: empty %s", ErrInvalid, what)
	}
	return nil
}
