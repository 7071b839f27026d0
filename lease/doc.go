// Package lease is the leader's clock: until when each session is kept alive.
package lease
