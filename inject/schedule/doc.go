// Package schedule forces interleavings that stress finds only by luck. It holds up
// one CPU at a chosen instruction of the driver while the other side acts, and then
// checks whether the promises still hold.
//
// A schedule (Schedule) names the instruction, the opponent, the ring and the qdisc.
// Its id replays exactly this schedule. To add an opponent, add an entry to Opponents,
// or to the driver's own. A pair (Pair) holds up both sides.
package schedule
