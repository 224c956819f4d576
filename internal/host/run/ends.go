package run

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// untilEnded returns a context that ends when the run is ended from outside: by ^C,
// by SIGTERM, or because the process is gone that started this one, as the go
// command is when it gets SIGTERM itself (cmd/go passes on what a terminal sends
// alone). Its cause says by what. A second signal ends the process.
func untilEnded() (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	// What is printed after that goes nowhere, which must not end this process
	// before it has written down what it has.
	broken := make(chan os.Signal, 1)
	signal.Notify(broken, syscall.SIGPIPE)
	parent := os.Getppid()
	go func() {
		defer signal.Stop(signals)
		for tick := time.NewTicker(200 * time.Millisecond); ; {
			select {
			case s := <-signals:
				cancel(fmt.Errorf("interrupted by %v", s))
			case <-tick.C:
				if os.Getppid() != parent {
					cancel(errors.New("interrupted: the process that started this one is gone"))
				}
			case <-ctx.Done():
			}
			if ctx.Err() != nil {
				tick.Stop()
				return
			}
		}
	}()
	return ctx, func() { cancel(context.Canceled) }
}
