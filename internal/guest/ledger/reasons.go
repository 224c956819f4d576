package ledger

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"

	"github.com/ringproof/ringproof/internal/guest/kernelfeature"
	"golang.org/x/sys/unix"
)

// tracefs is where the kernel offers a mount point for it.
const tracefs = "/sys/kernel/tracing"

// notSpecified is what a caller of plain kfree_skb gives as reason
// (include/net/dropreason-core.h), and all that there is before 5.17.
const notSpecified = "NOT_SPECIFIED"

// format is what the kernel says about the tracepoint skb:kfree_skb.
type format struct {
	// hasReason is false before 5.17: the tracepoint says only who freed.
	hasReason bool
	// reasons are the names of the kernel's own drop reasons. Those of
	// subsystems (include/net/dropreason.h) are not in the table.
	reasons map[uint32]string
}

// name returns the name of a reason, or its number.
func (f *format) name(reason uint32) string {
	if !f.hasReason {
		return notSpecified
	}
	if name, ok := f.reasons[reason]; ok {
		return name
	}
	return strconv.FormatUint(uint64(reason), 10)
}

func loadFormat() (*format, error) {
	const path = tracefs + "/events/skb/kfree_skb/format"
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		if err := unix.Mount("tracefs", tracefs, "tracefs", 0, ""); err != nil && err != unix.EBUSY {
			return nil, &kernelfeature.MissingError{Option: "CONFIG_FTRACE", What: "format of the tracepoint skb:kfree_skb", Err: fmt.Errorf("mount tracefs on %s: %w", tracefs, err)}
		}
		text, err = os.ReadFile(path)
	}
	if err != nil {
		return nil, &kernelfeature.MissingError{Option: "CONFIG_FTRACE", What: "format of the tracepoint skb:kfree_skb", Err: err}
	}
	f, err := parseFormat(string(text))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return f, nil
}

var (
	reasonField   = regexp.MustCompile(`(?m)^\s*field:.*\breason;`)
	locationField = regexp.MustCompile(`(?m)^\s*field:.*\blocation;`)
	// The pairs of __print_symbolic, e.g. { 77, "FULL_RING" }.
	symbolicPair = regexp.MustCompile(`\{\s*(\w+)\s*,\s*"(\w+)"\s*\}`)
)

// parseFormat reads the format file of skb:kfree_skb in tracefs.
func parseFormat(text string) (*format, error) {
	f := &format{hasReason: reasonField.MatchString(text), reasons: map[uint32]string{}}
	if !f.hasReason {
		return f, nil
	}
	_, printed, ok := strings.Cut(text, "print fmt:")
	if !ok {
		return nil, errors.New("no print fmt")
	}
	for _, pair := range symbolicPair.FindAllStringSubmatch(printed, -1) {
		id, err := strconv.ParseUint(pair[1], 0, 32)
		if err != nil {
			return nil, fmt.Errorf("reason %s has no number but %s", pair[2], pair[1])
		}
		f.reasons[uint32(id)] = pair[2]
	}
	if len(f.reasons) == 0 {
		return nil, errors.New("the tracepoint has reasons, but the format names none")
	}
	return f, nil
}

// consumeTracepoint says what skb:consume_skb shows; the location only from
// 6.3 on.
func consumeTracepoint() (tracepoint, error) {
	const path = tracefs + "/events/skb/consume_skb/format"
	text, err := os.ReadFile(path)
	if err != nil {
		return tracepoint{}, &kernelfeature.MissingError{Option: "CONFIG_FTRACE", What: "format of the tracepoint skb:consume_skb", Err: err}
	}
	return tracepoint{name: "consume_skb", hasLocation: locationField.Match(text)}, nil
}
