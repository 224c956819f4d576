package order

// Rule is a reason why a store cannot be made visible later than some instruction, or a
// load not executed before an earlier one, or why that is not tried.
type Rule struct {
	// Name is how coverage counts it.
	Name string
	// Says is the rule, and Source where it is from.
	Says, Source string
	// Lawful: the hardware may do it, and it is left out all the same.
	Lawful bool
}

func (r *Rule) String() string { return r.Name }

// The rules of x86. "SDM" is the Intel 64 and IA-32 Architectures Software Developer's
// Manual, volume 3A; sections are those of 2023 and later, in which memory ordering
// is 9.2. AMD's manual (APM volume 2, 7.2) has the same rules.
var (
	Locked = &Rule{Name: "locked instruction",
		Says:   "An instruction with a lock prefix, and xchg with memory, wait until all stores before them are visible.",
		Source: "SDM 9.2.3.9: loads and stores are not reordered with locked instructions; tools/memory-model/linux-kernel.cat: mb"}
	Fence = &Rule{Name: "mfence",
		Says:   "mfence waits until all stores before it are visible.",
		Source: "SDM 9.2.2: reads cannot pass earlier MFENCE instructions, and MFENCE instructions cannot pass earlier writes"}
	Serializing = &Rule{Name: "serializing instruction",
		Says:   "cpuid, iret, mov to a control register, wrmsr and their like wait until all stores before them are visible, and so do in and out.",
		Source: "SDM 9.3: serializing instructions; SDM 9.2.2: I/O instructions"}
	LaterStore = &Rule{Name: "later store",
		Says:   "Stores become visible in the order in which they are executed. So a store that the other side reads cannot become visible before the one that is delayed.",
		Source: "SDM 9.2.3.2: stores are not reordered with other stores; arch/x86/include/asm/barrier.h: __smp_wmb() is a compiler barrier"}
	OwnRead = &Rule{Name: "own read of more",
		Says:   "The CPU sees its own store before others do. A read that takes only a part of its bytes from that store waits until the store is visible.",
		Source: "SDM 9.2.3.5: intra-processor forwarding is allowed; of a read of more bytes than were stored nothing is said. On arm64 the same is left out"}
	HalfFence = &Rule{Name: "lfence or sfence", Lawful: true,
		Says:   "sfence orders stores only, and lfence loads only. That a load may pass an earlier store all the same is not tried.",
		Source: "SDM 9.2.5"}
	String = &Rule{Name: "string instruction", Lawful: true,
		Says:   "What rep movs and rep stos write may become visible in any order. This is not tried.",
		Source: "SDM 9.2.4"}
	Streaming = &Rule{Name: "streaming store", Lawful: true,
		Says:   "Stores that bypass the cache are ordered with no others. This is not tried.",
		Source: "SDM 9.2.2"}
	Unknown = &Rule{Name: "unknown instruction", Lawful: true,
		Says:   "An instruction that is in no list here may be any of these.",
		Source: "inject/order: Of"}
)

// Rules are those of x86, RulesA64 those of arm64.
var (
	Rules    = []*Rule{Locked, Fence, Serializing, LaterStore, OwnRead, HalfFence, String, Streaming, Unknown}
	RulesA64 = []*Rule{Dmb, StoreBarrier, LoadBarrier, Release, Acquire, AddressDependency, SameLocation, ReadBefore, OwnRead, Exception, Unknown}
)
