package consensus

import (
	"reflect"

	"github.com/hashicorp/raft"
)

// abandonable lets a wait for f end when stop is closed, with
// raft.ErrRaftShutdown. A future may never answer (hashicorp/raft#498; those in
// the hand of a state machine goroutine that was shut down), and Error cannot
// be interrupted: the goroutine in it would never end.
//
// The library's futures have an exported channel for this, ShutdownCh, which it
// sets for a few of them only. It sits in a type that is not exported, hence
// reflection. Without it, false: the wait ends when the library answers. Call
// it before Error.
func abandonable(f raft.Future, stop chan struct{}) bool {
	v := reflect.ValueOf(f)
	if v.Kind() != reflect.Pointer || v.Elem().Kind() != reflect.Struct {
		return false
	}
	field := v.Elem().FieldByName("ShutdownCh")
	if !field.IsValid() || !field.CanSet() || field.Type() != reflect.TypeOf(stop) || !field.IsNil() {
		return false
	}
	field.Set(reflect.ValueOf(stop))
	return true
}
