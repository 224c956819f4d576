package traffic

import (
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/ringproof/ringproof/internal/guest/kernelfeature"
	"golang.org/x/sys/unix"
)

// PktgenConfig says what the kernel's packet generator sends.
type PktgenConfig struct {
	// Qdisc sends through the qdisc (pktgen's queue_xmit); else straight to
	// the driver (start_xmit), at the same time as others.
	Qdisc bool
	// CPUs to send from, one thread each; at least one.
	CPUs []int
	// FirstSource is the ID of the first thread; the others follow.
	FirstSource uint8
	// Flows of each thread, taken in turn; 0 means 1. Through the qdisc they
	// decide the txq.
	Flows int
	// Txq that start_xmit uses; nil takes all in turn, whatever the flow.
	Txq *int
	// TxqOfCPU makes each thread use the txq that has its CPU's number, instead of Txq.
	TxqOfCPU bool
	// Count ends each thread after so many packets were taken; those that
	// were refused do not count. 0 is until stopped.
	Count uint64
	// Bytes of each packet from the IP header on; 0 means 64.
	Bytes int
	// Interval is the time from one packet to the next; 0 is as fast as can
	// be.
	Interval time.Duration
	// LikeSamples sets what the scripts of the kernel's samples/pktgen set: a source
	// port at random, no timestamp, an skb that the generator keeps a reference to. No packet is a source's then: to a Consumer
	// all are foreign.
	LikeSamples bool
}

const pktgenDir = "/proc/net/pktgen"

// pktgenPatience is how long one of pktgen's threads, which look ten times a
// second whether there is something to do, may take to do it.
const pktgenPatience = 10 * time.Second

// pktgenBusy is held while pktgen sends: to start it starts all devices of all
// threads, and to remove one removes them all.
var pktgenBusy sync.Mutex

// Pktgen sends packets from the kernel's packet generator.
type Pktgen struct {
	cfg     PktgenConfig
	devices []string // one for each CPU: "tap0@2"
	once    sync.Once
	done    chan struct{}

	mu      sync.Mutex // guards the rest
	stopped bool
	counts  []Counts
	results []string // as pktgen writes them at the end
	err     error
}

// StartPktgen starts to send. Only one can run at a time; another waits. Stop
// it when done.
//
// A tun device is an error: pktgen makes Ethernet frames only. A kernel that
// has no pktgen, or one that lets the generator keep a reference to each skb
// (before Linux 6.7), so that nobody can say who freed it and why, is a
// *kernelfeature.MissingError.
func StartPktgen(link *Link, cfg PktgenConfig) (*Pktgen, error) {
	if !link.ethernet {
		return nil, fmt.Errorf("pktgen cannot send through %s: it makes Ethernet frames only (net/core/pktgen.c: pktgen_setup_dev), and this link has no Ethernet header", link.Name)
	}
	if len(cfg.CPUs) == 0 {
		return nil, errors.New("pktgen needs at least one CPU to send from")
	}
	if cfg.Bytes == 0 {
		cfg.Bytes = 64
	}
	cfg.Flows = max(cfg.Flows, 1)
	p := &Pktgen{cfg: cfg, done: make(chan struct{}), counts: make([]Counts, len(cfg.CPUs))}
	pktgenBusy.Lock()
	if err := p.configure(link); err != nil {
		if _, missing := errors.AsType[*kernelfeature.MissingError](err); !missing {
			err = errors.Join(err, removePktgenDevices())
		}
		pktgenBusy.Unlock()
		return nil, fmt.Errorf("set pktgen up on %s: %w", link.Name, err)
	}
	go p.run()
	return p, nil
}

// run starts all threads and waits for them.
func (p *Pktgen) run() {
	defer close(p.done)
	defer pktgenBusy.Unlock()
	err := p.startAndWait()
	final, readErr := p.read()
	err = errors.Join(err, readErr, removePktgenDevices())
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stopped = true
	p.err = errors.Join(p.err, err)
	if readErr == nil {
		p.counts = countsOf(final)
		for _, state := range final {
			p.results = append(p.results, "Result: "+state.result)
		}
	}
}

func (p *Pktgen) startAndWait() error {
	// A signal to this thread would end the run (net/core/pktgen.c:
	// pktgen_wait_thread_run). The thread ends with the goroutine.
	runtime.LockOSThread()
	var all unix.Sigset_t
	for i := range all.Val {
		all.Val[i] = ^uint64(0)
	}
	if err := unix.PthreadSigmask(unix.SIG_BLOCK, &all, nil); err != nil {
		return fmt.Errorf("block signals: %w", err)
	}
	// This returns when no thread sends any more; but one that has not begun
	// after 125ms, on a busy machine, is not waited for
	// (pktgen_run_all_threads).
	if err := pktgenWrite("pgctrl", "start"); err != nil {
		return err
	}
	deadline := time.Now().Add(pktgenPatience)
	for _, device := range p.devices {
		for {
			state, err := readPktgen(device)
			if err != nil {
				return err
			}
			if state.ended {
				break
			}
			if state.running {
				deadline = time.Now().Add(pktgenPatience)
			} else if time.Now().After(deadline) {
				return fmt.Errorf("pktgen's thread for %s has not started within %v: %s", device, pktgenPatience, state.result)
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
	return nil
}

// read reads each thread's state.
func (p *Pktgen) read() ([]pktgenState, error) {
	states := make([]pktgenState, len(p.devices))
	for i, device := range p.devices {
		var err error
		if states[i], err = readPktgen(device); err != nil {
			return nil, err
		}
	}
	return states, nil
}

func countsOf(states []pktgenState) (counts []Counts) {
	for _, state := range states {
		counts = append(counts, state.counts())
	}
	return counts
}

// Done is closed when all threads have ended.
func (p *Pktgen) Done() <-chan struct{} { return p.done }

// Stop ends all threads, which takes up to a quarter of a second: it is how
// often pktgen looks.
func (p *Pktgen) Stop() error {
	p.once.Do(func() {
		for {
			// Again and again, for a thread that has not started yet
			// forgets the request (net/core/pktgen.c: pktgen_run).
			err := pktgenWrite("pgctrl", "stop")
			select {
			case <-p.done:
				return
			case <-time.After(20 * time.Millisecond):
			}
			if err != nil {
				p.mu.Lock()
				p.err = errors.Join(p.err, err)
				p.mu.Unlock()
				return
			}
		}
	})
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

// Counts returns the sum over all threads.
func (p *Pktgen) Counts() Counts {
	var sum Counts
	for _, c := range p.PerThread() {
		sum.Add(c)
	}
	return sum
}

// PerThread returns the counts of each thread, in the order of CPUs.
func (p *Pktgen) PerThread() []Counts {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.stopped {
		if now, err := p.read(); err == nil {
			p.counts = countsOf(now)
		}
	}
	return append([]Counts(nil), p.counts...)
}

// Results returns what each thread has said at its end, in the order of CPUs. It is an
// error before that.
func (p *Pktgen) Results() ([]PktgenResult, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return ParsePktgenResults(strings.Join(p.results, "\n"))
}
