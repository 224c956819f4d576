// Package iperf3 runs iperf3, a server and a client in two network namespaces.
package iperf3

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os/exec"
	"strings"
	"time"

	"github.com/ringproof/ringproof/internal/guest/netdev"
)

// Transfer says what is sent.
type Transfer struct {
	// Server and Client are the namespaces of the two, and To the server's
	// address in its own.
	Server, Client *netdev.Namespace
	To             string
	// Streams are TCP connections that send at once, beside the one by which the
	// client and the server agree on what to do.
	Streams int
	// Bytes to send over all streams together; 0 is to send for Duration, of which
	// iperf3 takes whole seconds.
	Bytes    int
	Duration time.Duration
	// Bound is when it is given up. It counts from the start of the client.
	Bound time.Duration
	// Stuck is called when it is, before anything is ended; nil is nothing.
	Stuck func()
}

// Report is what iperf3 says about a transfer.
type Report struct {
	// BitsPerSecond and Bytes are what the server has received.
	BitsPerSecond, Bytes float64
	// Retransmits are segments that the client has sent once more.
	Retransmits int
	// JSON is all of it, on one line.
	JSON string
}

// ErrBound says that the transfer has not ended within its bound.
var ErrBound = errors.New("iperf3 has not ended")

// Available says whether there is an iperf3 to run.
func Available() error {
	_, err := exec.LookPath("iperf3")
	return err
}

// Run starts a server and a client, and waits for the client.
func Run(ctx context.Context, t Transfer) (Report, error) {
	server := exec.Command("iperf3", "--server", "--one-off", "--forceflush")
	said, err := server.StdoutPipe()
	if err != nil {
		return Report{}, err
	}
	server.Stderr = server.Stdout
	if err := t.Server.Do(server.Start); err != nil {
		return Report{}, fmt.Errorf("start iperf3: %w", err)
	}
	defer func() {
		server.Process.Kill()
		server.Wait()
	}()
	lines := bufio.NewReader(said)
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			return Report{}, fmt.Errorf("iperf3's server has ended: %s", line)
		}
		if strings.Contains(line, "listening") {
			break
		}
	}
	go io.Copy(io.Discard, lines)

	// --interval=0: one report, at the end.
	// A payload of random numbers, as without --repeating-payload, would cost a good part
	// of what a short transfer does.
	args := []string{"--client", t.To, "--json", "--interval=0", "--repeating-payload", fmt.Sprintf("--parallel=%d", max(t.Streams, 1))}
	if t.Bytes > 0 {
		args = append(args, fmt.Sprintf("--bytes=%d", t.Bytes))
	} else {
		args = append(args, fmt.Sprintf("--time=%d", int(math.Ceil(t.Duration.Seconds()))))
	}
	bounded, cancel := context.WithTimeout(ctx, t.Bound)
	defer cancel()
	client := exec.CommandContext(bounded, "iperf3", args...)
	client.Cancel = func() error {
		if t.Stuck != nil {
			t.Stuck()
		}
		return client.Process.Kill()
	}
	var stdout, stderr bytes.Buffer
	client.Stdout, client.Stderr = &stdout, &stderr
	if err := t.Client.Do(client.Start); err != nil {
		return Report{}, fmt.Errorf("start iperf3: %w", err)
	}
	err = client.Wait()
	if bounded.Err() != nil {
		return Report{}, fmt.Errorf("%w within %v", ErrBound, t.Bound)
	}
	report, parseErr := parse(stdout.Bytes())
	if parseErr == nil && err != nil {
		parseErr = fmt.Errorf("%w: %s", err, stderr.String())
	}
	return report, parseErr
}

// parse reads what iperf3 --client --json prints.
func parse(text []byte) (Report, error) {
	var line bytes.Buffer
	if err := json.Compact(&line, text); err != nil {
		return Report{}, fmt.Errorf("iperf3's report is no JSON: %w: %q", err, text)
	}
	var said struct {
		Error string
		End   struct {
			SumSent struct {
				Retransmits int
			} `json:"sum_sent"`
			SumReceived struct {
				Bytes         float64
				BitsPerSecond float64 `json:"bits_per_second"`
			} `json:"sum_received"`
		}
	}
	if err := json.Unmarshal(line.Bytes(), &said); err != nil {
		return Report{}, fmt.Errorf("read iperf3's report: %w", err)
	}
	r := Report{
		BitsPerSecond: said.End.SumReceived.BitsPerSecond, Bytes: said.End.SumReceived.Bytes,
		Retransmits: said.End.SumSent.Retransmits, JSON: line.String(),
	}
	switch {
	case said.Error != "":
		return r, errors.New("iperf3: " + said.Error)
	case r.Bytes == 0 || r.BitsPerSecond == 0:
		return r, errors.New("iperf3's server has received nothing")
	}
	return r, nil
}
