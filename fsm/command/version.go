package command

import "math"

// KindVersion returns the least cluster version at which a command of c's kind
// may be proposed and has an effect. Of a kind that this program does not know
// it is above every version. A leader refuses kinds above the version of its
// state before they reach the log; a state does so again, so that replicas of
// different programs agree.
func KindVersion(c *Command) uint32 {
	switch c.GetKind().(type) {
	case *Command_Establish, *Command_Open, *Command_Resume, *Command_SetTtl,
		*Command_Acquire, *Command_Release, *Command_Cancel, *Command_End,
		*Command_Reconcile, *Command_Acknowledge, *Command_Join, *Command_Leave,
		*Command_Revoke, *Command_PlainAcquire, *Command_PlainRenew,
		*Command_PlainRelease, *Command_PlainCancel, *Command_JumpTokens,
		*Command_SetVersion:
		return 1
	default:
		return math.MaxUint32
	}
}
