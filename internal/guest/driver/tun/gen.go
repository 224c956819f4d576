package tun

// What it writes is kept with the sources: only those who change a program
// need clang, and Debian's libbpf-dev and linux-libc-dev.
//go:generate go tool bpf2go -go-package tun -target bpfel -cflags "-O2 -g -Wall -Werror -mcpu=v3 -I/usr/include/x86_64-linux-gnu" filters filters.bpf.c
