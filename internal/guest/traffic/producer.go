package traffic

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Source is something that sends until it is done or stopped: a *Producer or
// a *Pktgen.
type Source interface {
	// Done is closed when it has ended by itself or was stopped.
	Done() <-chan struct{}
	// Stop ends it and returns the first thing that went wrong, if any. It
	// never waits for the consumer.
	Stop() error
	// Counts returns what it sent so far.
	Counts() Counts
}

// ProducerConfig says what a Producer sends.
type ProducerConfig struct {
	SenderConfig
	// Count ends the producer after so many packets; 0 is until stopped.
	Count uint64
	// CPU to run on; nil is any.
	CPU *int
	// NoWait gives a packet up when the send buffer is full, and counts it as
	// unallocated. Else the producer waits until there is room.
	NoWait bool
	// Backoff is how long to wait after a packet was refused; 0 is not at
	// all.
	Backoff time.Duration
	// Interval is the time from one packet to the next; 0 is as fast as can
	// be.
	Interval time.Duration
}

// Producer sends packets from a thread of its own.
type Producer struct {
	cfg    ProducerConfig
	sender *Sender
	wake   int // eventfd that is readable once Stop was called
	once   sync.Once
	done   chan struct{}

	mu     sync.Mutex // guards the rest
	counts Counts
	err    error // the first unexpected one
}

// StartProducer opens a socket and starts to send. Stop it when done.
func StartProducer(link *Link, cfg ProducerConfig) (*Producer, error) {
	sender, err := NewSender(link, cfg.SenderConfig)
	if err != nil {
		return nil, err
	}
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		sender.Close()
		return nil, fmt.Errorf("start a producer: eventfd: %w", err)
	}
	p := &Producer{cfg: cfg, sender: sender, wake: wake, done: make(chan struct{})}
	if err := onThread(cfg.CPU, p.run); err != nil {
		sender.Close()
		unix.Close(wake)
		return nil, fmt.Errorf("start a producer: %w", err)
	}
	return p, nil
}

// Done is closed when the producer has ended.
func (p *Producer) Done() <-chan struct{} { return p.done }

// Counts returns what was sent so far; while the producer runs, it may be up
// to 32 packets behind.
func (p *Producer) Counts() Counts {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.counts
}

// Stop ends the producer. The error is the first send that failed for another
// reason than a full buffer or a refusal; the producer carried on after it.
func (p *Producer) Stop() error {
	p.once.Do(func() {
		p.kick()
		<-p.done
		unix.Close(p.wake)
	})
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

func (p *Producer) kick() {
	// Only an overflow of the counter can fail.
	unix.Write(p.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0})
}

func (p *Producer) run() {
	defer close(p.done)
	defer p.sender.Close()
	defer p.publish()
	var next time.Time
	for sent := uint64(0); p.cfg.Count == 0 || sent < p.cfg.Count; sent++ {
		if sent%32 == 0 {
			p.publish()
			if p.stopped(0, 0) {
				return
			}
		}
		if p.cfg.Interval != 0 {
			if next = next.Add(p.cfg.Interval); time.Until(next) < -time.Second {
				next = time.Now()
			}
			if p.stopped(time.Until(next), 0) {
				return
			}
		}
		if !p.sendOne() {
			return
		}
	}
}

// sendOne sends one packet, waiting for room if need be. It returns false if
// the producer was stopped meanwhile.
func (p *Producer) sendOne() bool {
	for {
		outcome, err := p.sender.Send()
		switch outcome {
		case Sent:
			return true
		case Refused:
			return p.cfg.Backoff == 0 || !p.stopped(p.cfg.Backoff, 0)
		case Unsent:
			p.mu.Lock()
			if p.err == nil {
				p.err = err
			}
			p.mu.Unlock()
			// The device is down or gone: do not spin.
			return !p.stopped(time.Millisecond, 0)
		case Full:
			if p.cfg.NoWait {
				p.sender.GiveUp()
				return true
			}
			p.publish()
			if p.stopped(time.Second, unix.POLLOUT) {
				p.sender.GiveUp()
				return false
			}
		}
	}
}

// stopped waits for at most d until the producer is stopped, or the socket is
// ready for events, and says whether it was stopped.
func (p *Producer) stopped(d time.Duration, events int16) bool {
	fds := []unix.PollFd{{Fd: int32(p.wake), Events: unix.POLLIN}, {Fd: -1}}
	if events != 0 {
		fds[1] = unix.PollFd{Fd: int32(p.sender.fd), Events: events}
	}
	timeout := unix.NsecToTimespec(max(d, 0).Nanoseconds())
	_, err := unix.Ppoll(fds, &timeout, nil)
	if err != nil && !errors.Is(err, unix.EINTR) {
		return true
	}
	return fds[0].Revents != 0
}

func (p *Producer) publish() {
	p.mu.Lock()
	p.counts = p.sender.Counts()
	p.mu.Unlock()
}
