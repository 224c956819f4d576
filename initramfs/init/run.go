package main

import (
	"io"
	"os"
	"time"

	"github.com/ringproof/ringproof/internal/contract"
	"golang.org/x/sys/unix"
)

// maxOutput bounds an Output event: the host reads events with a bufio.Scanner,
// which takes lines of up to 64 KiB, and base64 adds a third.
const maxOutput = 16 << 10

// run runs the program, relays what it prints to w as it comes, and reaps
// every orphan meanwhile. It returns when the program has ended.
func run(boot contract.Boot, w io.Writer) contract.Exit {
	r, stdout, err := os.Pipe()
	if err != nil {
		return contract.Exit{Error: err.Error()}
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		return contract.Exit{Error: err.Error()}
	}
	env := append([]string{"HOME=/tmp", "TMPDIR=/tmp", "PATH=/bin", contract.GuestEnv + "=1"}, boot.Env...)
	program, err := os.StartProcess(boot.Argv[0], boot.Argv, &os.ProcAttr{
		Dir: "/", Env: env, Files: []*os.File{null, stdout, stdout},
	})
	stdout.Close()
	if err != nil {
		return contract.Exit{Error: err.Error()}
	}

	relayed := make(chan struct{})
	go func() {
		defer close(relayed)
		buf := make([]byte, maxOutput)
		for {
			n, err := r.Read(buf)
			if n > 0 {
				w.Write(buf[:n])
			}
			if err != nil {
				return
			}
		}
	}()

	exit := reapUntil(program.Pid)
	// All that the program wrote is in the pipe by now. A child that it left
	// behind may hold the pipe open for ever.
	r.SetReadDeadline(time.Now().Add(time.Second))
	<-relayed
	return exit
}

// reapUntil waits for every child, until that one has ended.
func reapUntil(pid int) contract.Exit {
	for {
		var status unix.WaitStatus
		ended, err := unix.Wait4(-1, &status, 0, nil)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return contract.Exit{Error: "wait: " + err.Error()}
		case ended != pid:
		case status.Signaled():
			return contract.Exit{Signal: unix.SignalName(status.Signal())}
		default:
			return contract.Exit{Code: status.ExitStatus()}
		}
	}
}
