// Package schedule forces what stress can only hope for: it holds one CPU up at
// a chosen instruction of the driver while the other side acts, and then looks
// whether the promises still hold.
//
// A schedule (Schedule) names the instruction, the opponent and what it does,
// the ring and the qdisc; its id replays exactly that. To add an opponent, add
// an entry to Opponents, or to the driver's. A pair (Pair) holds up both sides.
package schedule
