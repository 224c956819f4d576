package bench

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ringproof/ringproof/internal/contract"
	"github.com/ringproof/ringproof/internal/cost"
	"github.com/ringproof/ringproof/internal/guest/driver"
	"github.com/ringproof/ringproof/internal/guest/driver/tun"
	"github.com/ringproof/ringproof/internal/guest/traffic"
)

// TestSample has pktgen send as TestPktgen does, as TestPktgen would with the settings of
// the kernel's samples/pktgen, and as these scripts do, in turn.
func TestSample(t *testing.T) {
	two := 2
	if setting.instructions { // there is one CPU
		two = 1
	}
	for _, s := range []kernelSample{
		{"pktgen_sample01_simple.sh", generation{1, 1, "tap", false}},
		{multiqueue, generation{two, two, "tap", false}},
	} {
		t.Run(s.script, func(t *testing.T) {
			// The first round is there to warm up.
			for round := range setting.rounds + 1 {
				for _, by := range []sender{byHarness, byLikewise, byScript} {
					result := cost.Sample{Workload: fmt.Sprintf("Sample/%s/threads=%d/by=%s", s.script, s.threads, by.name)}
					good := false
					if result.Missing = s.missing(); result.Missing == "" {
						good = ended(&result, s.run(by, &result))
					}
					if round > 0 || !good {
						sample(t, result)
					}
					if !good {
						return
					}
				}
			}
		})
	}
}

// kernelSample is a script, and what the harness does likewise.
type kernelSample struct {
	script string
	generation
}

// multiqueue has each thread use the txq of its CPU.
const multiqueue = "pktgen_sample02_multiqueue.sh"

// sampleDir is where the host puts the scripts.
const sampleDir = "/samples/pktgen/"

// missing says what the script lacks; "" if nothing.
func (s kernelSample) missing() string {
	for _, file := range []string{"/bin/bash", "/bin/cat", "/bin/dirname", "/bin/grep", sampleDir + "functions.sh", sampleDir + "parameters.sh", sampleDir + s.script} {
		if _, err := os.Stat(file); err != nil {
			return fmt.Sprintf("%s is not in the image: ringproof bench -sample puts it there, of a kernel that ringproof has built", file)
		}
	}
	return ""
}

const (
	// sampled are the packets of each thread; the samples' own default.
	sampled = 100000
	// sampleBytes are those of a packet from the Ethernet header on; the samples' own
	// default.
	sampleBytes = 60
	// sampleBound is the time that may take. It is far more than it does.
	sampleBound = time.Minute
)

// sender has pktgen send packets of each thread, and returns what pktgen says of it.
type sender struct {
	name string
	// foreign: its packets are no source's.
	foreign bool
	send    func(s kernelSample, link *traffic.Link, packets int) ([]traffic.PktgenResult, error)
}

var (
	byHarness  = sender{"harness", false, kernelSample.sendByHarness}
	byLikewise = sender{"likewise", true, kernelSample.sendLikewise}
	byScript   = sender{"sample", true, kernelSample.sendByScript}
)

func (s kernelSample) sendByHarness(link *traffic.Link, packets int) ([]traffic.PktgenResult, error) {
	return s.sendByPktgen(link, traffic.PktgenConfig{Count: uint64(packets), TxqOfCPU: s.txqs > 1})
}

func (s kernelSample) sendLikewise(link *traffic.Link, packets int) ([]traffic.PktgenResult, error) {
	return s.sendByPktgen(link, traffic.PktgenConfig{Count: uint64(packets), LikeSamples: true, TxqOfCPU: s.script == multiqueue})
}

func (s kernelSample) sendByPktgen(link *traffic.Link, cfg traffic.PktgenConfig) ([]traffic.PktgenResult, error) {
	cfg.FirstSource, cfg.Bytes = 1, sampleBytes-14
	for cpu := range s.threads {
		cfg.CPUs = append(cfg.CPUs, cpu)
	}
	source, err := traffic.StartPktgen(link, cfg)
	if err != nil {
		return nil, err
	}
	select {
	case <-source.Done():
	case <-time.After(sampleBound):
		return nil, errors.Join(fmt.Errorf("pktgen has not ended within %v", sampleBound), source.Stop())
	}
	if err := source.Stop(); err != nil {
		return nil, err
	}
	return source.Results()
}

func (s kernelSample) sendByScript(link *traffic.Link, packets int) ([]traffic.PktgenResult, error) {
	device, err := net.InterfaceByName(link.Name)
	if err != nil {
		return nil, err
	}
	bounded, cancel := context.WithTimeout(context.Background(), sampleBound)
	defer cancel()
	cmd := exec.CommandContext(bounded, "/bin/bash", sampleDir+s.script, "-i", link.Name, "-m", device.HardwareAddr.String(),
		"-s", strconv.Itoa(sampleBytes), "-n", strconv.Itoa(packets), "-t", strconv.Itoa(s.threads))
	cmd.Env = []string{"PATH=/bin"}
	cmd.WaitDelay = time.Second
	var said, complaints strings.Builder
	cmd.Stdout, cmd.Stderr = &said, &complaints
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%s: %w: %s%s", strings.Join(cmd.Args, " "), err, said.String(), complaints.String())
	}
	results, err := traffic.ParsePktgenResults(said.String())
	if err != nil {
		err = fmt.Errorf("%s: %w; it has complained: %q", strings.Join(cmd.Args, " "), err, complaints.String())
	}
	return results, err
}

// run is one round.
func (s kernelSample) run(by sender, into *cost.Sample) (err error) {
	shape, packets := driver.Shape{Mode: "tap", TxQueues: s.txqs, TxQueueLen: 500, Qdisc: s.rootQdisc(), Backpressure: setting.backpressure}, sampled
	if setting.instructions {
		// A ring with room for all: how often it is full depends on who runs when.
		packets = generated
		shape.TxQueueLen = packets
	}
	made, err := tun.Driver.Make(shape)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, made.Close()) }()
	link, err := traffic.LinkByName(made.Link().Name())
	if err != nil {
		return err
	}
	before, err := countsOf(made.Link())
	if err != nil {
		return err
	}
	consumer, err := traffic.Consume(link, made.Queues(), traffic.ConsumerConfig{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, consumer.Stop()) }()
	watch, err := startWatch()
	if err != nil {
		return err
	}
	results, err := by.send(s, link, packets)
	if err != nil {
		return err
	}
	if err := consumer.Drain(10 * time.Second); err != nil {
		return err
	}
	window, err := watch.stop()
	if err != nil {
		return err
	}
	if len(results) != s.threads {
		return fmt.Errorf("%d threads have sent, and should be %d: %+v", len(results), s.threads, results)
	}
	var sent traffic.Counts
	var took time.Duration
	for _, r := range results {
		if r.Bytes != sampleBytes {
			return fmt.Errorf("pktgen has sent packets of %d bytes, and should of %d", r.Bytes, sampleBytes)
		}
		sent.Add(traffic.Counts{Offered: r.Sent + r.Errors, Refused: r.Errors})
		took = max(took, r.Took)
	}
	var account contract.Books
	sent.Enter(&account)
	consumer.Arrivals().Enter(&account)
	if by.foreign {
		// The books do not balance if others are among them.
		account.Received, account.Foreign = account.Foreign, account.Received
	}
	books, err := s.books(account, made.Link(), before, nil)
	into.Books = books
	if err != nil {
		return err
	}
	into.Values = make(map[string]float64)
	if setting.instructions {
		into.Window = window
		into.Window.Where, into.Window.Unit, into.Window.Per = "producer", "instr/pkt", float64(books.Offered)
		return nil
	}
	into.Values["offered-pps"] = float64(books.Offered) / took.Seconds()
	into.Values["tx-pps"] = float64(books.Offered-books.Dropped()) / took.Seconds()
	into.Values["rx-pps"] = float64(books.Received) / took.Seconds()
	into.Values["lost-pps"] = float64(books.Dropped()) / took.Seconds()
	return nil
}
