// Package raftlockv1 is the public contract between an application and the
// agent on its host: the messages and the service of the Unix socket, generated
// from the .proto files beside it, which say of each what it does and whether it
// is safe to repeat.
//
// It promises that fields and reasons are only ever appended. It has no logic,
// owns no goroutine, and imports nothing else of this module, so that an
// application that imports it gets nothing but it.
package raftlockv1
