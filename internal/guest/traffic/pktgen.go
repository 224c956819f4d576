package traffic

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/ringproof/ringproof/internal/guest/tuntap"
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
	// Count ends each thread after so many packets were taken; those that
	// were refused do not count. 0 is until stopped.
	Count uint64
	// Bytes of each packet from the IP header on; 0 means 64.
	Bytes int
	// Interval is the time from one packet to the next; 0 is as fast as can
	// be.
	Interval time.Duration
}

const pktgenDir = "/proc/net/pktgen"

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
	err     error
}

// StartPktgen starts to send. Only one can run at a time; another waits. Stop
// it when done.
//
// A tun device is an error: pktgen makes Ethernet frames only. A kernel that
// has no pktgen, or one that lets the generator keep a reference to each skb
// (before Linux 6.7), so that nobody can say who freed it and why, is a
// *tuntap.MissingError.
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
		if _, missing := errors.AsType[*tuntap.MissingError](err); !missing {
			err = errors.Join(err, pktgenWrite("pgctrl", "reset"))
		}
		pktgenBusy.Unlock()
		return nil, fmt.Errorf("set pktgen up on %s: %w", link.Name, err)
	}
	go p.run()
	return p, nil
}

func (p *Pktgen) configure(link *Link) error {
	if _, err := os.Stat(pktgenDir); errors.Is(err, fs.ErrNotExist) {
		return &tuntap.MissingError{Option: "CONFIG_NET_PKTGEN", What: "pktgen", Err: err}
	}
	// What an earlier run left, if it was killed, would start with ours.
	if err := pktgenWrite("pgctrl", "reset"); err != nil {
		return err
	}
	for i, cpu := range p.cfg.CPUs {
		// The part after "@" lets several threads use one device.
		device := fmt.Sprintf("%s@%d", link.Name, cpu)
		if err := pktgenWrite(fmt.Sprintf("kpktgend_%d", cpu), "add_device "+device); err != nil {
			return err
		}
		p.devices = append(p.devices, device)
		for _, parameter := range p.parameters(link, i) {
			if err := pktgenWrite(device, parameter); err != nil {
				return err
			}
		}
		if err := unshare(device); err != nil {
			return err
		}
	}
	return nil
}

func (p *Pktgen) parameters(link *Link, thread int) []string {
	mode := "start_xmit"
	if p.cfg.Qdisc {
		mode = "queue_xmit"
	}
	port := sourcePort + int(p.cfg.FirstSource) + thread
	firstTxq, lastTxq := 0, txqs(link.Name)-1
	if p.cfg.Txq != nil {
		firstTxq, lastTxq = *p.cfg.Txq, *p.cfg.Txq
	}
	return []string{
		"xmit_mode " + mode,
		fmt.Sprintf("count %d", p.cfg.Count),
		fmt.Sprintf("delay %d", p.cfg.Interval.Nanoseconds()),
		fmt.Sprintf("pkt_size %d", ethernetLen+p.cfg.Bytes),
		fmt.Sprintf("dst_mac %02x:%02x:%02x:%02x:%02x:%02x", link.mac[0], link.mac[1], link.mac[2], link.mac[3], link.mac[4], link.mac[5]),
		fmt.Sprintf("src_min %d.%d.%d.%d", link.local[0], link.local[1], link.local[2], link.local[3]),
		fmt.Sprintf("src_max %d.%d.%d.%d", link.local[0], link.local[1], link.local[2], link.local[3]),
		fmt.Sprintf("dst %d.%d.%d.%d", link.peer[0], link.peer[1], link.peer[2], link.peer[3]),
		fmt.Sprintf("udp_src_min %d", port),
		fmt.Sprintf("udp_src_max %d", port),
		fmt.Sprintf("udp_dst_min %d", flowPort),
		// Exclusive, but for one flow both are the same (net/core/pktgen.c:
		// mod_cur_headers).
		fmt.Sprintf("udp_dst_max %d", flowPort+flowEnd(p.cfg.Flows)),
		fmt.Sprintf("queue_map_min %d", firstTxq),
		fmt.Sprintf("queue_map_max %d", lastTxq),
	}
}

func flowEnd(flows int) int {
	if flows == 1 {
		return 0
	}
	return flows
}

// txqs is the number of txqs in use (net/core/net-sysfs.c shows
// real_num_tx_queues of them).
func txqs(name string) int {
	found, _ := filepath.Glob("/sys/class/net/" + name + "/queues/tx-*")
	return max(len(found), 1)
}

// unshare makes pktgen hand each skb over for good. Else it keeps a
// reference, which makes it the one who frees a dropped skb, for no reason
// that a tracepoint could tell.
func unshare(device string) error {
	if err := pktgenWrite(device, "flag !SHARED"); err != nil {
		return err
	}
	state, err := readPktgen(device)
	if err != nil {
		return err
	}
	if !strings.HasPrefix(state.result, "OK: flags=") {
		return &tuntap.MissingError{Option: "Linux 6.7", What: "pktgen flag !SHARED", Err: errors.New(state.result)}
	}
	return nil
}

func pktgenWrite(file, command string) error {
	path := filepath.Join(pktgenDir, file)
	if err := os.WriteFile(path, []byte(command+"\n"), 0); err != nil {
		return fmt.Errorf("write %q to %s: %w", command, path, err)
	}
	return nil
}

// run starts all threads and waits for them: the write returns when the last
// has ended.
func (p *Pktgen) run() {
	defer close(p.done)
	defer pktgenBusy.Unlock()
	// A signal to this thread would end the run (net/core/pktgen.c:
	// pktgen_wait_thread_run). The thread ends with the goroutine.
	runtime.LockOSThread()
	var all unix.Sigset_t
	for i := range all.Val {
		all.Val[i] = ^uint64(0)
	}
	err := unix.PthreadSigmask(unix.SIG_BLOCK, &all, nil)
	if err == nil {
		err = pktgenWrite("pgctrl", "start")
	}
	final, readErr := p.read()
	err = errors.Join(err, readErr, pktgenWrite("pgctrl", "reset"))
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stopped = true
	p.err = err
	if readErr == nil {
		p.counts = final
	}
}

// read reads each thread's counters.
func (p *Pktgen) read() ([]Counts, error) {
	counts := make([]Counts, len(p.devices))
	for i, device := range p.devices {
		state, err := readPktgen(device)
		if err != nil {
			return nil, err
		}
		counts[i] = state.counts()
	}
	return counts, nil
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
			p.counts = now
		}
	}
	return append([]Counts(nil), p.counts...)
}
