package main

import "testing"

func TestPreemptionModel(t *testing.T) {
	const stamp = " Thu Jan  1 00:00:00 UTC 1970"
	config := func(set ...string) string {
		text := "# config\nCONFIG_SMP=y\n"
		for _, option := range set {
			text += "CONFIG_" + option + "=y\n"
		}
		return text + "# CONFIG_PREEMPTION is not set\n"
	}
	for _, tt := range []struct{ version, config, dynamic, want string }{
		{"#1 SMP" + stamp, config("PREEMPT_NONE_BUILD", "PREEMPT_NONE"), "", "PREEMPT_NONE"},
		{"#1 SMP" + stamp, config("PREEMPT_VOLUNTARY_BUILD", "PREEMPT_VOLUNTARY"), "", "PREEMPT_VOLUNTARY"},
		{"#1 SMP" + stamp, "", "", "PREEMPT_NONE or PREEMPT_VOLUNTARY"},
		{"#1 SMP PREEMPT" + stamp, config("PREEMPT_BUILD", "PREEMPT"), "", "PREEMPT"},
		{"#1 SMP PREEMPT" + stamp, config("PREEMPT_BUILD", "PREEMPT_LAZY"), "", "PREEMPT_LAZY"},
		{"#1 SMP PREEMPT" + stamp, "", "", "PREEMPT or PREEMPT_LAZY"},
		{"#1 SMP PREEMPT_RT" + stamp, config("PREEMPT_RT", "PREEMPT_LAZY"), "", "PREEMPT_RT"},
		{"#1 SMP PREEMPT_RT Debian 6.12.57-1" + stamp, "", "(full) lazy \n", "PREEMPT_RT"},
		{"#1 SMP PREEMPT_DYNAMIC" + stamp, config("PREEMPT_DYNAMIC", "PREEMPT_BUILD", "PREEMPT"), "none (voluntary) full \n", "PREEMPT_VOLUNTARY (PREEMPT_DYNAMIC)"},
		{"#1 SMP PREEMPT_DYNAMIC" + stamp, "", "none voluntary (full) \n", "PREEMPT (PREEMPT_DYNAMIC)"},
		{"#1 SMP PREEMPT_DYNAMIC" + stamp, "", "full (lazy) \n", "PREEMPT_LAZY (PREEMPT_DYNAMIC)"},
		{"#1 SMP PREEMPT_DYNAMIC" + stamp, config("PREEMPT_DYNAMIC", "PREEMPT"), "", "PREEMPT_DYNAMIC"},
	} {
		if got := preemptionModel(tt.version, tt.config, tt.dynamic); got != tt.want {
			t.Errorf("%q, %q, %q: %s, want %s", tt.version, tt.config, tt.dynamic, got, tt.want)
		}
	}
}
