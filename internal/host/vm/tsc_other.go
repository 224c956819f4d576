//go:build !amd64

package vm

// tscKHz is 0: the host has no counter that a guest's could be.
func tscKHz() int { return 0 }
