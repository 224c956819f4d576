package breakpoint

// What it writes is kept with the sources: only those who change the program
// need clang, and Debian's libbpf-dev and linux-libc-dev.
//go:generate go tool bpf2go -go-package breakpoint -target amd64 -cflags "-O2 -g -Wall -Werror -mcpu=v3 -I/usr/include/x86_64-linux-gnu" pause pause.bpf.c
