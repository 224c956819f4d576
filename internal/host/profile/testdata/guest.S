/*
 * A program that QEMU boots by itself (multiboot), and whose instructions can be
 * counted by hand: each line of what lies between the marks is as many as its
 * comment says.
 */
	.section .text
	.align	4
	.long	0x1badb002, 0, -0x1badb002	/* the header: nothing is asked for */

	.globl	_start
_start:
	movl	$stack, %esp
	call	mark_open		/* 2 in it */
	movl	$10, %ecx		/* 1 */
again:
	lock incl word			/* 10, locked */
	xchgl	%eax, word		/* 10, locked */
	xchgl	%ebx, %edx		/* 10 */
	.byte	0x3e			/* a prefix of the next, and no lock */
	incl	word			/* 10 */
	.byte	0x65			/* %gs, before a lock */
	lock incl word			/* 10, locked */
	outb	%al, $0x80		/* 10, to a device */
	movl	0xfee00020, %eax	/* 10, from one, in the middle of a block */
	incl	%ebx			/* 10 */
	loop	again			/* 10 */
	call	mark_producer		/* 1, and 2 as a producer */
	movl	$100, %ecx		/* 1 as a producer, and so on */
	movl	$bytes, %edi		/* 1 */
	rep stosb			/* 100: QEMU counts each byte, and the end once more */
	call	mark_close		/* 1 */
	movb	$0, %al
	outb	%al, $0xf4		/* ends QEMU */
	hlt

	/* nopl imm32(%eax): see plugin.c */
mark_open:
	.byte	0x0f, 0x1f, 0x80
	.long	0x72707001
	ret
mark_close:
	.byte	0x0f, 0x1f, 0x80
	.long	0x72707002
	ret
mark_producer:
	.byte	0x0f, 0x1f, 0x80
	.long	0x72707003
	ret

	.section .bss
	.lcomm	word, 4
	.lcomm	bytes, 100
	.lcomm	space, 4096
	.set	stack, space + 4096
