package proof

import (
	"context"
	"io"
	"sync/atomic"
	"time"

	"github.com/ringproof/ringproof/internal/host/kernel"
)

// building is a kernel that is built while the one before is judged: a build
// and a VM leave each other room, even on two CPUs.
type building struct {
	voice  *voice
	cancel context.CancelFunc
	done   chan struct{}
	kernel *kernel.Result
	err    error
}

func build(ctx context.Context, j job, progress io.Writer) *building {
	ctx, cancel := context.WithCancel(ctx)
	b := &building{voice: &voice{to: progress}, cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(b.done)
		b.kernel, b.err = kernel.Build(ctx, kernel.Spec{Series: j.series, Fragments: j.design.Fragments}, b.voice)
	}()
	return b
}

// wait returns the kernel, and for how long it had to be waited for; 0 if it was
// built before.
func (b *building) wait() (*kernel.Result, time.Duration, error) {
	began := time.Now()
	b.voice.heard.Store(true)
	<-b.done
	if b.err != nil || b.kernel.Cached {
		return b.kernel, 0, b.err
	}
	return b.kernel, time.Since(began), nil
}

// abandon ends what may still be under way.
func (b *building) abandon() {
	b.cancel()
	<-b.done
}

// voice is silent until somebody waits: two kinds of progress at once say
// nothing.
type voice struct {
	to    io.Writer
	heard atomic.Bool
}

func (v *voice) Write(p []byte) (int, error) {
	if !v.heard.Load() {
		return len(p), nil
	}
	return v.to.Write(p)
}
