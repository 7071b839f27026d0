// Package fsm is the lock state machine: a pure function of the log.
package fsm
