package bootstrap

// writing is held from the look at the record until its change is durable. It
// is a channel and no mutex because a save may take long, and in a test bubble
// time must pass while others wait for it.
type writing chan struct{}

func (w writing) lock()   { w <- struct{}{} }
func (w writing) unlock() { <-w }
