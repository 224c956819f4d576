package cache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Lock is an exclusive claim on a name, among all processes that use the
// same cache. It ends with its process, however that ends.
type Lock struct {
	file *os.File
}

// lockPoll is how often a waiting run looks again: flock(2) cannot be
// cancelled, so it is not waited in.
const lockPoll = 100 * time.Millisecond

// Acquire claims name, which may contain slashes. While another run holds
// it, Acquire waits, after writing one line to progress that says for what
// and for whom. It returns ctx's error when ctx ends first.
//
// The caller must Release the lock; otherwise others wait until this process
// ends.
func Acquire(ctx context.Context, name string, progress io.Writer) (*Lock, error) {
	dir, err := Dir("locks")
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, strings.ReplaceAll(name, "/", "_"))
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, fileMode)
	if err != nil {
		return nil, fmt.Errorf("lock %s: %w", name, explain(path, err))
	}
	for told := false; ; {
		err := flock(file, unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			break
		}
		if !errors.Is(err, unix.EWOULDBLOCK) {
			file.Close()
			return nil, err
		}
		if !told {
			told = true
			fmt.Fprintf(progress, "waiting for another run that uses %s (%s)\n", name, owner(file))
		}
		select {
		case <-ctx.Done():
			err := fmt.Errorf("waiting for another run that uses %s (%s): %w", name, owner(file), ctx.Err())
			file.Close()
			return nil, err
		case <-time.After(lockPoll):
		}
	}
	// For those who wait. A failure here costs them only the pid.
	file.Truncate(0)
	fmt.Fprintf(io.NewOffsetWriter(file, 0), "process %d since %s", os.Getpid(), time.Now().Format(time.TimeOnly))
	return &Lock{file}, nil
}

// File is the locked file. A child process that inherits it holds the claim
// too, until it has ended: what a killed run leaves running for a moment is
// then waited for.
func (l *Lock) File() *os.File { return l.file }

// Release ends the claim.
func (l *Lock) Release() {
	l.file.Truncate(0)
	l.file.Close()
}

func owner(file *os.File) string {
	text := make([]byte, 100)
	n, _ := file.ReadAt(text, 0)
	if n == 0 {
		return "process unknown"
	}
	return string(text[:n])
}

// flock is flock(2), carried on after a signal.
func flock(f *os.File, how int) error {
	for {
		err := unix.Flock(int(f.Fd()), how)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("lock %s: %w", f.Name(), err)
		}
		return nil
	}
}
