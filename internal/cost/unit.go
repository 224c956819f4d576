package cost

// Unit says of a value what it counts and which way is better.
type Unit struct {
	Name string
	// Higher is better; else lower is.
	Higher bool
	// Says is what it counts, in words.
	Says string
}

// Units are those of Samples.
var Units = []Unit{
	{"offered-pps", true, "packets per second that were offered"},
	{"tx-pps", true, "packets per second that the qdisc or the driver took"},
	{"rx-pps", true, "packets per second that the consumer received"},
	{"lost-pps", false, "packets per second that were freed instead"},
	{"bit/s", true, "payload that TCP delivered"},
	{"retransmits", false, "segments that TCP sent again"},
	{"p50-us", false, "time from a packet's sending to its arrival, median"},
	{"p99-us", false, "the same, of 99 in 100"},
	{"p99.9-us", false, "the same, of 999 in 1000"},
	{"max-us", false, "the same, of the slowest"},
	{"ms", false, "time until all was delivered"},
	{"instr/pkt", false, "instructions for each packet that arrived"},
	{"send-instr/pkt", false, "those while packets are sent"},
	{"take-instr/pkt", false, "those while packets are taken"},
	{"mean-instr/pkt", false, "those with the clock's ticks and all others"},
	{"instr/KiB", false, "instructions for each KiB that TCP delivered"},
	{"kernel-instr/pkt", false, "those of the kernel, but for page faults"},
	{"kernel-instr/KiB", false, "those of the kernel, but for page faults"},
	{"locked/pkt", false, "locked instructions for each packet that arrived"},
	{"locked/KiB", false, "locked instructions for each KiB that arrived"},
	{"stops/pkt", false, "how often the txq was stopped and woken"},
	{"dry/wake", false, "share of the wakes that find the ring empty"},
	{"nettx/pkt", false, "NET_TX softirqs"},
	{"requeues/pkt", false, "packets that the driver gave back to the qdisc"},
	{"switches/pkt", false, "context switches"},
	{"lost/pkt", false, "share of the packets that were freed instead"},
	{"lost", false, "share of the probes that were freed instead"},
}

// UnitOf returns the unit of that name; one that is not listed is better lower.
func UnitOf(name string) Unit {
	for _, u := range Units {
		if u.Name == name {
			return u
		}
	}
	return Unit{Name: name}
}
