package traffic

import "github.com/ringproof/ringproof/internal/contract"

// Outcome is what became of one attempt to send.
type Outcome int

const (
	// Sent: the sender was told that the packet was queued or sent.
	Sent Outcome = iota
	// Refused: an skb was made and freed (ENOBUFS).
	Refused
	// Full: the socket's send buffer has no room (EAGAIN). Nothing was
	// counted, and the next Send tries the same packet again.
	Full
	// Unsent: the send failed before an skb was made, for the reason that the
	// error says; the device is down or gone, for example.
	Unsent
)

func (o Outcome) String() string {
	return [...]string{"sent", "refused", "send buffer full", "unsent"}[o]
}

// Counts are a source's part of contract.Books, in packets.
type Counts struct {
	Offered uint64
	// Unallocated of those never became an skb: given up while the socket's send
	// buffer was full, or the device was down.
	Unallocated uint64
	// Refused of those were freed to the sender's face.
	Refused uint64
}

// Add adds o to c.
func (c *Counts) Add(o Counts) {
	c.Offered += o.Offered
	c.Unallocated += o.Unallocated
	c.Refused += o.Refused
}

// Accepted is how many the sender was told were queued or sent.
func (c Counts) Accepted() uint64 { return c.Offered - c.Unallocated - c.Refused }

// Enter writes the counts into the books.
func (c Counts) Enter(b *contract.Books) {
	b.Offered += c.Offered
	b.Unallocated += c.Unallocated
	b.Refused += c.Refused
}
