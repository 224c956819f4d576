package traffic

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/ringproof/ringproof/internal/guest/kernelfeature"
	"golang.org/x/sync/errgroup"
)

func (p *Pktgen) configure(link *Link) error {
	if _, err := os.Stat(pktgenDir); errors.Is(err, fs.ErrNotExist) {
		return &kernelfeature.MissingError{Option: "CONFIG_NET_PKTGEN", What: "pktgen", Err: err}
	}
	// What an earlier run left, if it was killed, would start with ours.
	if err := removePktgenDevices(); err != nil {
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
		if p.cfg.LikeSamples {
			continue
		}
		if err := unshare(device); err != nil {
			return err
		}
	}
	return nil
}

func (p *Pktgen) parameters(link *Link, thread int) []string {
	if p.cfg.LikeSamples {
		return p.samples(link)
	}
	mode := "start_xmit"
	if p.cfg.Qdisc {
		mode = "queue_xmit"
	}
	port := sourcePort + int(p.cfg.FirstSource) + thread
	firstTxq, lastTxq := 0, txqs(link.Name)-1
	if p.cfg.Txq != nil {
		firstTxq, lastTxq = *p.cfg.Txq, *p.cfg.Txq
	}
	parameters := []string{
		"xmit_mode " + mode,
		// As the kernel's samples have it: nobody reads the time in the packet.
		"flag NO_TIMESTAMP",
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
	if p.cfg.TxqOfCPU {
		parameters = append(parameters, "flag QUEUE_MAP_CPU")
	}
	return parameters
}

// samples are the parameters of samples/pktgen/pktgen_sample01_simple.sh and
// pktgen_sample02_multiqueue.sh; the latter is with TxqOfCPU.
func (p *Pktgen) samples(link *Link) []string {
	parameters := []string{
		fmt.Sprintf("count %d", p.cfg.Count),
		"clone_skb 0",
		fmt.Sprintf("pkt_size %d", ethernetLen+p.cfg.Bytes),
		"delay 0",
		"flag NO_TIMESTAMP",
		fmt.Sprintf("dst_mac %02x:%02x:%02x:%02x:%02x:%02x", link.mac[0], link.mac[1], link.mac[2], link.mac[3], link.mac[4], link.mac[5]),
		"dst_min 198.18.0.42",
		"dst_max 198.18.0.42",
		"flag UDPSRC_RND",
		"udp_src_min 9",
		"udp_src_max 109",
	}
	if p.cfg.TxqOfCPU {
		parameters = append(parameters, "flag QUEUE_MAP_CPU")
	}
	return parameters
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
		return &kernelfeature.MissingError{Option: "Linux 6.7", What: "pktgen flag !SHARED", Err: errors.New(state.result)}
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

// removePktgenDevices removes the devices of every thread that has some, and
// waits until they are gone: a thread that comes round to it late would remove
// the next run's.
func removePktgenDevices() error {
	threads, err := filepath.Glob(filepath.Join(pktgenDir, "kpktgend_*"))
	if err != nil {
		return err
	}
	var removing errgroup.Group
	for _, thread := range threads {
		removing.Go(func() error {
			for deadline := time.Now().Add(pktgenPatience); ; {
				text, err := os.ReadFile(thread)
				if err != nil {
					return err
				}
				devices := pktgenDevices(string(text))
				if len(devices) == 0 {
					return nil
				}
				if time.Now().After(deadline) {
					return fmt.Errorf("pktgen has not removed %v within %v", devices, pktgenPatience)
				}
				if err := pktgenWrite(filepath.Base(thread), "rem_device_all"); err != nil {
					return err
				}
			}
		})
	}
	return removing.Wait()
}
