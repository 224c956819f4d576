//go:build ignore

/*
 * A plugin of QEMU's that counts how often each of the guest's instructions is
 * executed, and in which context. It is for one CPU.
 *
 * The argument dir= names a directory. Its file profile.entries says where the
 * kernel has what the contexts are told by, a line each:
 *
 *	softirq ADDR    a function that runs softirqs
 *	interrupt ADDR  the first instruction for an interrupt
 *	exception ADDR  the first instruction for a fault or a trap
 *	fork ADDR       the first instruction of a new task
 *	switch ADDR     __switch_to_asm
 *	producer ADDR   a function that only a producer's task executes
 *	consumer ADDR   the same for a consumer's
 *	idle ADDR       the same for the idle task
 *
 * The guest says by marks (see struct block) when to count. What has been counted
 * in the nth window is written to profile.N: "instructions N", the number of all;
 * "astray N", how often the contexts turned out wrong; then for each instruction
 * of the kernel in each context
 *
 *	ROLE CONTEXT ADDR COUNT LOCKED
 *
 * with one line for all of user space in each, of address 0; then "end". ADDR is
 * hexadecimal. LOCKED is how many of the executions locked the bus.
 *
 * docs/devel/tcg-plugins.rst of QEMU describes the interface; what differs between
 * its versions stands in the comment in include/plugins/qemu-plugin.h on
 * qemu_plugin_version. API is the version that this is compiled for.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPORT __attribute__((visibility("default")))

struct qemu_plugin_tb;
struct qemu_plugin_insn;

/* QEMU_PLUGIN_CB_NO_REGS, QEMU_PLUGIN_INLINE_ADD_U64, QEMU_PLUGIN_MEM_RW. */
enum { NO_REGS = 0, ADD_U64 = 0, MEM_RW = 3 };

size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *, size_t);
uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *);
size_t qemu_plugin_insn_size(const struct qemu_plugin_insn *);
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *,
		void (*)(unsigned int, void *), int, void *);
void qemu_plugin_register_vcpu_mem_cb(struct qemu_plugin_insn *,
		void (*)(unsigned int, uint32_t, uint64_t, void *), int, int, void *);

#if API >= 2
typedef struct {
	void *score;
	size_t offset;
} qemu_plugin_u64;
void *qemu_plugin_scoreboard_new(size_t);
void *qemu_plugin_scoreboard_find(void *, unsigned int);
void qemu_plugin_register_vcpu_insn_exec_inline_per_vcpu(struct qemu_plugin_insn *,
		int, qemu_plugin_u64, uint64_t);
#else
void qemu_plugin_register_vcpu_insn_exec_inline(struct qemu_plugin_insn *,
		int, void *, uint64_t);
#endif

#if API >= 3
size_t qemu_plugin_insn_data(const struct qemu_plugin_insn *, void *, size_t);
#else
const void *qemu_plugin_insn_data(const struct qemu_plugin_insn *);
#endif

#if API >= 7
void qemu_plugin_register_vcpu_tb_trans_cb(uint64_t,
		void (*)(struct qemu_plugin_tb *, void *), void *);
#else
void qemu_plugin_register_vcpu_tb_trans_cb(uint64_t,
		void (*)(uint64_t, struct qemu_plugin_tb *));
#endif

EXPORT int qemu_plugin_version = API;

enum context { TASK, SOFTIRQ, INTERRUPT, FAULT, CONTEXTS };
static const char *const context_names[] = { "task", "softirq", "interrupt", "fault" };

enum role { OTHER, PRODUCER, CONSUMER, IDLE, ROLES };
static const char *const role_names[] = { "other", "producer", "consumer", "idle" };

#define CELLS (ROLES * CONTEXTS)

enum entry {
	NONE, TO_SOFTIRQ, TO_INTERRUPT, TO_EXCEPTION, TO_FORK,
	TO_PRODUCER, TO_CONSUMER, TO_IDLE,
};

static const struct {
	const char *name;
	enum entry entry;
} entry_names[] = {
	{ "softirq", TO_SOFTIRQ }, { "interrupt", TO_INTERRUPT },
	{ "exception", TO_EXCEPTION }, { "fork", TO_FORK },
	{ "producer", TO_PRODUCER }, { "consumer", TO_CONSUMER },
	{ "idle", TO_IDLE },
};

static struct {
	uint64_t addr;
	enum entry entry;
} entries[256];
static int nr_entries;
static uint64_t switch_at;

static const char *dir;

/* Where kernels have themselves, and programs do not. */
#define KERNEL_BASE (1ULL << 63)

/*
 * A mark is nopl imm32(%rax), of which the last byte says what is meant
 * (bench/mark.go). It is the only instruction of a function beside its return.
 */
static const uint8_t mark_bytes[] = { 0x0f, 0x1f, 0x80 };
#define MARK 0x72707000u
enum mark { NO_MARK, OPEN, CLOSE, AS_PRODUCER, AS_CONSUMER, AS_OTHER };

/* __switch_to_asm takes the stack of the next task: mov disp32(%rsi),%rsp. */
static const uint8_t switch_bytes[] = { 0x48, 0x8b, 0xa6 };
#define SWITCH_LENGTH 64

/* What QEMU translates at once, and executes from the first instruction on. */
struct block {
	uint64_t start, end;
	uint16_t n;
	uint8_t entry, mark;
	bool iret; /* it ends by an iret */
	bool touched;
	struct block *next; /* of those that are touched */
	/* How often it was executed to its end, and how often only this far. */
	uint64_t whole[CELLS];
	uint64_t (*part)[CELLS];
	uint8_t insns[]; /* lengths, with LOCKED */
};
#define LOCKED 0x80

/* What a task does, the innermost last. It never schedules inside a softirq or
 * interrupt, but may on the way out of an interrupt. */
struct frame {
	enum context context;
	uint64_t until; /* where a softirq's caller goes on; 0: until an iret */
};

struct task {
	struct task *next;
	uint64_t id;
	enum role role;
	int depth;
	struct frame frames[16];
};
#define MAX_DEPTH 16

static struct task boot_task, *current = &boot_task, *tasks[256];

static struct block *last; /* the one that was begun last */
static uint64_t last_began; /* what *executed was then */
static int last_cell;

static struct block *touched;
static bool counting;
static uint64_t opened_at, astray;
static int windows;

#if API >= 2
static qemu_plugin_u64 executed_by;
static uint64_t executed(void)
{
	return *(uint64_t *)qemu_plugin_scoreboard_find(executed_by.score, 0);
}
#else
static uint64_t executed_by;
static uint64_t executed(void)
{
	return executed_by;
}
#endif

static void fail(const char *what, const char *path)
{
	fprintf(stderr, "profile: %s %s: %s\n", what, path, strerror(errno));
}

static void *must(void *p)
{
	if (!p) {
		fprintf(stderr, "profile: out of memory\n");
		exit(1);
	}
	return p;
}

/* settle counts what the last block has executed: of an exception, or when it
 * turns out to access a device, QEMU leaves it before its end. */
static void settle(void)
{
	uint64_t done = executed() - last_began;

	if (!counting || !last || !done)
		return;
	if (!last->touched) {
		last->touched = true;
		last->next = touched;
		touched = last;
	}
	if (done >= last->n) {
		last->whole[last_cell]++;
		return;
	}
	if (!last->part)
		last->part = must(calloc(last->n, sizeof(*last->part)));
	last->part[done][last_cell]++;
}

static void put(FILE *f, int cell, uint64_t addr, uint64_t count, uint64_t locked)
{
	if (count)
		fprintf(f, "%s %s %" PRIx64 " %" PRIu64 " %" PRIu64 "\n", role_names[cell / CONTEXTS],
			context_names[cell % CONTEXTS], addr, count, locked);
}

static void write_window(void)
{
	uint64_t user[CELLS] = { 0 }, user_locked[CELLS] = { 0 };
	char path[4096], tmp[4096 + 4];
	FILE *f;

	snprintf(path, sizeof(path), "%s/profile.%d", dir, windows);
	snprintf(tmp, sizeof(tmp), "%s.tmp", path);
	f = fopen(tmp, "w");
	if (!f) {
		fail("make", tmp);
		return;
	}
	fprintf(f, "instructions %" PRIu64 "\nastray %" PRIu64 "\n", executed() - opened_at, astray);
	for (struct block *b = touched; b; b = b->next) {
		for (int cell = 0; cell < CELLS; cell++) {
			uint64_t addr = b->end, count = b->whole[cell];

			/* From the last on, to which the fewest have come. */
			for (int i = b->n - 1; i >= 0; i--) {
				uint64_t locked;

				addr -= b->insns[i] & ~LOCKED;
				if (b->part && i + 1 < b->n)
					count += b->part[i + 1][cell];
				locked = b->insns[i] & LOCKED ? count : 0;
				if (addr >= KERNEL_BASE) {
					put(f, cell, addr, count, locked);
				} else {
					user[cell] += count;
					user_locked[cell] += locked;
				}
			}
		}
	}
	for (int cell = 0; cell < CELLS; cell++)
		put(f, cell, 0, user[cell], user_locked[cell]);
	fprintf(f, "end\n");
	if (ferror(f) | fclose(f))
		fail("write", tmp);
	else if (rename(tmp, path))
		fail("rename", tmp);
}

static void open_window(void)
{
	for (struct block *b = touched; b; b = b->next) {
		b->touched = false;
		memset(b->whole, 0, sizeof(b->whole));
		free(b->part);
		b->part = NULL;
	}
	touched = NULL;
	astray = 0;
	opened_at = executed();
	counting = true;
	windows++;
}

static void push(enum context context, uint64_t until)
{
	if (current->depth == MAX_DEPTH) {
		astray++;
		current->depth = 0;
	}
	current->frames[current->depth++] = (struct frame){ context, until };
}

static enum context context(void)
{
	return current->depth ? current->frames[current->depth - 1].context : TASK;
}

static void enter(const struct block *b)
{
	switch (b->entry) {
	case TO_SOFTIRQ:
		/* One of these functions may jump to another. */
		if (context() != SOFTIRQ && last)
			push(SOFTIRQ, last->end);
		break;
	case TO_INTERRUPT:
		if (context() != INTERRUPT)
			push(INTERRUPT, 0);
		break;
	case TO_EXCEPTION:
		push(FAULT, 0);
		break;
	case TO_FORK: /* It may have the memory of one that is no more. */
		current->depth = 0;
		current->role = OTHER;
		break;
	case TO_PRODUCER:
		current->role = PRODUCER;
		break;
	case TO_CONSUMER:
		current->role = CONSUMER;
		break;
	case TO_IDLE:
		current->role = IDLE;
		break;
	}
	switch (b->mark) {
	case OPEN:
		open_window();
		break;
	case CLOSE:
		if (counting)
			write_window();
		counting = false;
		break;
	case AS_PRODUCER:
		current->role = PRODUCER;
		break;
	case AS_CONSUMER:
		current->role = CONSUMER;
		break;
	case AS_OTHER:
		current->role = OTHER;
		break;
	}
}

static void block_begins(unsigned int cpu, void *data)
{
	struct block *b = data;

	settle();
	if (current->depth) {
		struct frame *top = &current->frames[current->depth - 1];

		if (top->until ? b->start == top->until : last->iret)
			current->depth--;
		if (current->depth && b->end < KERNEL_BASE) {
			/* All of them end before user space goes on. */
			astray++;
			current->depth = 0;
		}
	}
	if (b->entry || b->mark)
		enter(b);
	last = b;
	last_began = executed();
	last_cell = current->role * CONTEXTS + context();
}

static void switch_to(unsigned int cpu, uint32_t info, uint64_t addr, void *data)
{
	struct task **slot = &tasks[addr / 64 % (sizeof(tasks) / sizeof(tasks[0]))];
	struct task *t = *slot;

	while (t && t->id != addr)
		t = t->next;
	if (!t) {
		t = must(calloc(1, sizeof(*t)));
		t->id = addr;
		t->next = *slot;
		*slot = t;
	}
	current = t;
}

static bool begins_with(const uint8_t *code, size_t size, const uint8_t *what, size_t n)
{
	return size >= n && !memcmp(code, what, n);
}

/* is_locked says whether an instruction locks the bus: it has the prefix, or is
 * xchg with memory, which needs none. */
static bool is_locked(const uint8_t *code, size_t size)
{
	size_t i = 0;

	for (; i < size; i++) {
		switch (code[i]) {
		case 0xf0:
			return true;
		case 0x26: case 0x2e: case 0x36: case 0x3e: case 0x64: case 0x65:
		case 0x66: case 0x67: case 0xf2: case 0xf3:
			continue;
		}
		break;
	}
	if (i < size && (code[i] & 0xf0) == 0x40) /* REX */
		i++;
	return i + 1 < size && (code[i] == 0x86 || code[i] == 0x87) && code[i + 1] < 0xc0;
}

static void translated(struct qemu_plugin_tb *tb)
{
	size_t n = qemu_plugin_tb_n_insns(tb);
	struct block *b = must(calloc(1, sizeof(*b) + n));

	b->n = n;
	for (size_t i = 0; i < n; i++) {
		struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);
		size_t size = qemu_plugin_insn_size(insn);
		uint64_t addr = qemu_plugin_insn_vaddr(insn);
#if API >= 3
		uint8_t copy[16], *code = copy;

		qemu_plugin_insn_data(insn, copy, sizeof(copy));
#else
		const uint8_t *code = qemu_plugin_insn_data(insn);
#endif
		if (!i) {
			b->start = addr;
			for (int e = 0; e < nr_entries; e++)
				if (entries[e].addr == addr)
					b->entry = entries[e].entry;
		}
		b->end = addr + size;
		b->insns[i] = size | (is_locked(code, size) ? LOCKED : 0);
		b->iret = begins_with(code, size, (const uint8_t[]){ 0x48, 0xcf }, 2);
		if (begins_with(code, size, mark_bytes, sizeof(mark_bytes)) && size == 7) {
			uint32_t says;

			memcpy(&says, code + 3, sizeof(says));
			if ((says & ~0xffu) == MARK)
				b->mark = says & 0xff;
		}
		if (addr - switch_at < SWITCH_LENGTH && begins_with(code, size, switch_bytes, sizeof(switch_bytes)))
			/* It reads, which QEMU 7.2 takes for a write. */
			qemu_plugin_register_vcpu_mem_cb(insn, switch_to, NO_REGS, MEM_RW, NULL);
#if API >= 2
		qemu_plugin_register_vcpu_insn_exec_inline_per_vcpu(insn, ADD_U64, executed_by, 1);
#else
		qemu_plugin_register_vcpu_insn_exec_inline(insn, ADD_U64, &executed_by, 1);
#endif
	}
	qemu_plugin_register_vcpu_tb_exec_cb(tb, block_begins, NO_REGS, b);
}

#if API >= 7
static void translate(struct qemu_plugin_tb *tb, void *data)
{
	translated(tb);
}
#else
static void translate(uint64_t id, struct qemu_plugin_tb *tb)
{
	translated(tb);
}
#endif

static bool read_entries(void)
{
	char path[4096], name[32];
	uint64_t addr;
	FILE *f;

	snprintf(path, sizeof(path), "%s/profile.entries", dir);
	f = fopen(path, "r");
	if (!f) {
		fail("read", path);
		return false;
	}
	while (fscanf(f, "%31s %" SCNx64, name, &addr) == 2) {
		if (!strcmp(name, "switch")) {
			switch_at = addr;
			continue;
		}
		if (nr_entries == sizeof(entries) / sizeof(entries[0])) {
			fprintf(stderr, "profile: %s has too many lines\n", path);
			fclose(f);
			return false;
		}
		entries[nr_entries].addr = addr;
		for (size_t i = 0; i < sizeof(entry_names) / sizeof(entry_names[0]); i++)
			if (!strcmp(name, entry_names[i].name))
				entries[nr_entries].entry = entry_names[i].entry;
		nr_entries++;
	}
	fclose(f);
	return true;
}

EXPORT int qemu_plugin_install(uint64_t id, const void *info, int argc, char **argv)
{
	for (int i = 0; i < argc; i++)
		if (!strncmp(argv[i], "dir=", 4))
			dir = strdup(argv[i] + 4);
	if (!dir) {
		fprintf(stderr, "profile: no dir= is given\n");
		return 1;
	}
	if (!read_entries())
		return 1;
#if API >= 2
	executed_by.score = must(qemu_plugin_scoreboard_new(sizeof(uint64_t)));
	qemu_plugin_register_vcpu_tb_trans_cb(id, translate
#if API >= 7
			, NULL
#endif
	);
#else
	qemu_plugin_register_vcpu_tb_trans_cb(id, translate);
#endif
	return 0;
}
