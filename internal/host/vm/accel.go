package vm

import (
	"context"
)

// Accel is how QEMU executes the guest's instructions.
type Accel string

const (
	// Auto is KVM if it is proven to work, else TCG.
	Auto Accel = "auto"
	// KVM executes them on the host's CPU.
	KVM Accel = "kvm"
	// TCG translates them. It works everywhere, some ten times slower.
	TCG Accel = "tcg"
)

// Choice is an accelerator that works here, and why it was chosen.
type Choice struct {
	Accel  Accel // KVM or TCG
	Reason string
}

// Choose is a placeholder that is replaced below.
func Choose(ctx context.Context, want Accel) (Choice, error) {
	return Choice{TCG, "asked for"}, nil
}
