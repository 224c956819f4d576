// Package inject forces what stress can only hope for: it holds one CPU up at
// a chosen instruction of the driver while the other side acts, and then looks
// whether the promises still hold. It runs in the guest.
//
// A schedule (Schedule) names the instruction, the opponent and what it does,
// the ring and the qdisc; its id replays exactly that. To add an opponent, add
// an entry to Opponents.
//
// The instruction is found in the running kernel's own text (Disassemble), and
// reached by an execution breakpoint, whose eBPF program spins until it is
// released (pause.bpf.c): no debug info, no source and no cooperation of the
// patch are needed, and nothing is patched into the kernel.
package schedule
