package vm

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"time"
)

// monitor speaks QMP, QEMU's monitor protocol, one command at a time.
type monitor struct {
	conn    net.Conn
	replies *bufio.Reader
}

// monitorTime bounds each command: QEMU answers at once, or it hangs too.
const monitorTime = time.Second

// newMonitor greets QEMU, which takes no command before that.
func newMonitor(conn net.Conn) (*monitor, error) {
	m := &monitor{conn, bufio.NewReader(conn)}
	_, err := m.execute("qmp_capabilities", nil)
	return m, err
}

// execute runs a command. Its result is a string for those that we use, if
// it is anything.
func (m *monitor) execute(command string, arguments map[string]any) (string, error) {
	m.conn.SetDeadline(time.Now().Add(monitorTime))
	request := map[string]any{"execute": command}
	if arguments != nil {
		request["arguments"] = arguments
	}
	if err := json.NewEncoder(m.conn).Encode(request); err != nil {
		return "", fmt.Errorf("QEMU's monitor: %s: %w", command, err)
	}
	for {
		line, err := m.replies.ReadBytes('\n')
		if err != nil {
			return "", fmt.Errorf("QEMU's monitor: %s: %w", command, err)
		}
		var reply struct {
			Return json.RawMessage
			Error  *struct{ Desc string }
		}
		if err := json.Unmarshal(line, &reply); err != nil {
			return "", fmt.Errorf("QEMU's monitor: %s: %w", command, err)
		}
		switch {
		case reply.Error != nil:
			return "", fmt.Errorf("QEMU's monitor: %s: %s", command, reply.Error.Desc)
		case reply.Return != nil:
			var text string
			if json.Unmarshal(reply.Return, &text) != nil {
				return "", nil
			}
			return strings.ReplaceAll(text, "\r", ""), nil
		}
		// The greeting, or an event.
	}
}
