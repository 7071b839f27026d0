package main

import (
	"fmt"
	"math/rand/v2"
)

// loopback is a part of 127.0.0.0/8 that no other run is likely to use, so that
// every process has an address of its own and the usual ports.
type loopback struct{ second, third int }

func newLoopback() loopback { return loopback{second: 16 + rand.IntN(224), third: 1 + rand.IntN(254)} }

func (l loopback) host(n int) string { return fmt.Sprintf("127.%d.%d.%d", l.second, l.third, n) }
