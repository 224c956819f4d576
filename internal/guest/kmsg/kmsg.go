// Package kmsg reads and writes the kernel's log through /dev/kmsg.
package kmsg

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const path = "/dev/kmsg"

// maxRecord is the longest record that the kernel hands out
// (kernel/printk/internal.h: PRINTK_MESSAGE_MAX and its predecessors).
const maxRecord = 8192

// ErrOverrun says that records were overwritten before they were read.
var ErrOverrun = errors.New("the kernel log was overwritten before it was read")

// Record is one line of the kernel log.
type Record struct {
	Level int           // 0 (emergency) to 7 (debug)
	Seq   uint64        // consecutive
	Time  time.Duration // since boot
	Text  string
}

// Log reads the records from one point on.
type Log struct{ fd int }

// Open begins at the log's end: Read returns what is logged from now on. Close
// the Log when done.
func Open() (*Log, error) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	if _, err := unix.Seek(fd, 0, io.SeekEnd); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("go to the end of %s: %w", path, err)
	}
	return &Log{fd: fd}, nil
}

// Read returns the records since Open or the last Read; none is no error. With
// ErrOverrun the records are those that are left.
func (l *Log) Read() (records []Record, err error) {
	buf := make([]byte, maxRecord)
	for {
		n, errno := unix.Read(l.fd, buf)
		switch {
		case errors.Is(errno, unix.EAGAIN):
			return records, err
		case errors.Is(errno, unix.EPIPE):
			err = ErrOverrun
			continue
		case errors.Is(errno, unix.EINTR):
			continue
		case errno != nil:
			return records, fmt.Errorf("read %s: %w", path, errno)
		}
		record, parseErr := parse(string(buf[:n]))
		if parseErr != nil {
			return records, fmt.Errorf("%s: %w", path, parseErr)
		}
		records = append(records, record)
	}
}

// Close ends reading.
func (l *Log) Close() error { return unix.Close(l.fd) }

// parse reads one record in the format of Documentation/ABI/testing/dev-kmsg:
// "6,339,5140900,-;text\n KEY=value\n".
func parse(s string) (Record, error) {
	prefix, text, ok := strings.Cut(s, ";")
	fields := strings.Split(prefix, ",")
	if !ok || len(fields) < 3 {
		return Record{}, fmt.Errorf("record %q has no level, sequence and time", s)
	}
	priority, err1 := strconv.ParseUint(fields[0], 10, 32)
	seq, err2 := strconv.ParseUint(fields[1], 10, 64)
	usec, err3 := strconv.ParseInt(fields[2], 10, 64)
	if err := errors.Join(err1, err2, err3); err != nil {
		return Record{}, fmt.Errorf("record %q: %w", s, err)
	}
	text, _, _ = strings.Cut(text, "\n")
	return Record{
		Level: int(priority & 7), // the rest is the facility
		Seq:   seq,
		Time:  time.Duration(usec) * time.Microsecond,
		Text:  text,
	}, nil
}

// Write logs line, for example one of contract.MarkBegin; a level in front of
// it, as in "<3>", is the record's.
func Write(line string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("write to the kernel log: %w", err)
	}
	defer f.Close()
	if _, err := f.WriteString(line); err != nil {
		return fmt.Errorf("write to the kernel log: %w", err)
	}
	return nil
}

// AsksToQueue counts the records in which the kernel complains that a device
// without a qdisc has a txq that is stopped (net/core/dev.c: __dev_queue_xmit).
//
// None proves nothing on its own: the message is rate limited together with
// all others of the network stack, to 10 in 5 s (net/core/utils.c:
// net_ratelimit_state). Each such packet is freed there, though, for no
// specified reason, which the ledger counts.
func AsksToQueue(records []Record, device string) int {
	n := 0
	for _, r := range records {
		if strings.HasPrefix(r.Text, "Virtual device "+device+" asks to queue packet!") {
			n++
		}
	}
	return n
}
