package contract

import "testing"

func TestOptInFlag(t *testing.T) {
	both := func(getiff, sysfs bool) map[string]bool {
		return map[string]bool{"TUNGETIFF": getiff, "tun_flags": sysfs}
	}
	const offered, missing = true, false
	for _, tt := range []struct {
		name     string
		contract Contract
		offered  bool
		seen     []FlagSeen
		want     Outcome
	}{
		{"set and reported", OptIn, offered, []FlagSeen{{Set: true, Reported: both(true, true)}}, Kept},
		{"clear and not reported", OptIn, offered, []FlagSeen{{Reported: both(false, false)}}, Kept},
		{"one does not report it", OptIn, offered, []FlagSeen{{Set: true, Reported: both(false, true)}}, Broken},
		{"one reports it when it is clear", OptIn, offered, []FlagSeen{{Reported: both(false, true)}}, Broken},
		{"the last look counts as the first", OptIn, offered, []FlagSeen{{Set: true, Reported: both(true, true)}, {Reported: both(true, true)}}, Broken},
		{"stops", OptIn, offered, []FlagSeen{{Set: true, Load: &FlagLoad{Sent: 6, Slots: 2, Held: 4, Stops: true}}}, Kept},
		{"drops", OptIn, offered, []FlagSeen{{Load: &FlagLoad{Sent: 6, Slots: 2, TailDropped: 4}}}, Kept},
		{"drops where it is to stop", OptIn, offered, []FlagSeen{{Set: true, Load: &FlagLoad{Sent: 6, Slots: 2, TailDropped: 4, Stops: true}}}, Broken},
		{"stops where it is to drop", OptIn, offered, []FlagSeen{{Load: &FlagLoad{Sent: 6, Slots: 2, Held: 4}}}, Broken},
		{"stops, and drops one", OptIn, offered, []FlagSeen{{Set: true, Load: &FlagLoad{Sent: 6, Slots: 2, Held: 3, TailDropped: 1, Stops: true}}}, Broken},
		{"packets that went elsewhere", OptIn, offered, []FlagSeen{{Load: &FlagLoad{Sent: 6, Slots: 2, TailDropped: 3}}}, Broken},
		{"never looked at", OptIn, offered, nil, Undecided},
		{"ignored by a kernel that lacks it", Stock, missing, []FlagSeen{{Set: true, Reported: both(false, false)}}, Kept},
		{"reported by a kernel that does not offer it", Stock, missing, []FlagSeen{{Set: true, Reported: both(true, false)}}, Broken},
		{"an opt-in kernel that lacks it", OptIn, missing, []FlagSeen{{Set: true, Reported: both(false, false)}}, Broken},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got, why := tt.contract.OptInFlag(tt.offered, tt.seen); got != tt.want {
				t.Errorf("%s, want %s (%s)", got, tt.want, why)
			}
		})
	}
}
