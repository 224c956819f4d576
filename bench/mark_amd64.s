#include "textflag.h"

// Each is nopl imm32(AX): CPUs do nothing, and the host's plugin of QEMU
// (internal/host/profile/plugin.c) knows it by the number.

TEXT ·markOpen(SB), NOSPLIT, $0-0
	BYTE $0x0f; BYTE $0x1f; BYTE $0x80; LONG $0x72707001
	RET

TEXT ·markClose(SB), NOSPLIT, $0-0
	BYTE $0x0f; BYTE $0x1f; BYTE $0x80; LONG $0x72707002
	RET

TEXT ·markProducer(SB), NOSPLIT, $0-0
	BYTE $0x0f; BYTE $0x1f; BYTE $0x80; LONG $0x72707003
	RET

TEXT ·markConsumer(SB), NOSPLIT, $0-0
	BYTE $0x0f; BYTE $0x1f; BYTE $0x80; LONG $0x72707004
	RET

TEXT ·markOther(SB), NOSPLIT, $0-0
	BYTE $0x0f; BYTE $0x1f; BYTE $0x80; LONG $0x72707005
	RET
