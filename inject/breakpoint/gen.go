package breakpoint

// What it writes is kept with the sources: only those who change a program
// need clang, and Debian's libbpf-dev and linux-libc-dev.
//go:generate -command bpf2go go tool bpf2go -go-package breakpoint -cflags "-O2 -g -Wall -Werror -mcpu=v3 -I/usr/include/x86_64-linux-gnu"
//go:generate bpf2go -target amd64,arm64 -type state pause pause.bpf.c
//go:generate bpf2go -target bpfel stops stops.bpf.c
//go:generate bpf2go -target amd64,arm64 call call.bpf.c
//go:generate bpf2go -target amd64,arm64 -type place -type record -type recorder record record.bpf.c
