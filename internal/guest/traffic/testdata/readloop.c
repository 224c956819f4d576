/*
 * readloop N FD CPU: reads N packets from the tun queue FD, on that CPU, and
 * prints how many nanoseconds that took. It looks at nothing: no reader of
 * packets is faster, so BenchmarkReader measures ours against it.
 */
#define _GNU_SOURCE
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static long long now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

int main(int argc, char **argv)
{
	static char packet[2048];
	long packets, i;
	long long began;
	cpu_set_t cpus;
	int fd;

	if (argc != 4) {
		fprintf(stderr, "usage: readloop N FD CPU\n");
		return 2;
	}
	CPU_ZERO(&cpus);
	CPU_SET(atoi(argv[3]), &cpus);
	if (sched_setaffinity(0, sizeof(cpus), &cpus)) {
		perror("readloop: sched_setaffinity");
		return 1;
	}
	packets = atol(argv[1]);
	fd = atoi(argv[2]);
	began = now();
	for (i = 0; i < packets; i++) {
		if (read(fd, packet, sizeof(packet)) < 0) {
			perror("readloop: read");
			return 1;
		}
	}
	printf("%lld\n", now() - began);
	return 0;
}
