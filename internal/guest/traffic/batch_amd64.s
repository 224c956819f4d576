#include "go_asm.h"
#include "textflag.h"

// func readPackets(fd, room, most uintptr, bytes *byte, at uintptr, records *spooled, want *atomic.Int32, in *atomic.Uint64) (errno uintptr)
TEXT ·readPackets(SB), NOSPLIT, $0-72
	MOVQ fd+0(FP), DI
	MOVQ room+8(FP), DX
	MOVQ most+16(FP), R8
	MOVQ bytes+24(FP), SI
	MOVQ at+32(FP), BX
	MOVQ records+40(FP), R9
	MOVQ want+48(FP), R10
	MOVQ in+56(FP), R12
	MOVQ (R12), R13

next:
	CMPL (R10), $0
	JNE  done
	XORL AX, AX // SYS_READ; the kernel keeps all but AX, CX and R11
	SYSCALL
	CMPQ AX, $0xfffffffffffff001
	JCC  failed
	MOVL BX, spooled_at(R9)
	MOVL AX, spooled_length(R9)
	ADDQ $spooled__size, R9
	ADDQ AX, BX
	ADDQ AX, SI
	INCQ R13
	MOVQ R13, (R12) // after the record: stores are seen in order
	DECQ R8
	JNE  next

done:
	MOVQ $0, errno+64(FP)
	RET

failed:
	NEGQ AX
	MOVQ AX, errno+64(FP)
	RET
