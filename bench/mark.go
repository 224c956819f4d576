package bench

// Marks tell the host's profile what the guest does; without one they are two
// instructions that do nothing.

// markOpen and markClose are around what is profiled.
func markOpen()
func markClose()

// markProducer, markConsumer and markOther say what the calling thread does from
// now on. Of a thread that has not said anything, it is markOther.
func markProducer()
func markConsumer()
func markOther()
