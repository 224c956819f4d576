# make check   the contract on a stock and on a patched kernel, side by side;
#              KSRC=source SERIES=series.mbox for your own, V=2 for its
#              version 2 where there are more, SHORT=1 for seconds;
#              a source is a tree, a tar file, debian:7.3 or debian:sid
# make revisions
#              the revisions of a series, one after the other, and what changed
#              from each to the next: SERIES="v9.mbox v12.mbox" KSRC=source
# make help    this text
# make test    static checks, unit tests, the contract in VMs, and that the harness
#              itself behaves; not proof and soak
# make fuzz    read mutations of series for TIME=60s, and compare with git;
#              make test tries some hundred, much the same each time
# make bench   what a patch costs, in instructions and in time: BASE= and PATCHED=
#              are each a bzImage, a design, a series or a source; SERIES= with
#              EACH=1 is each patch against the one before it; QUICK=1 leaves out
#              what takes time
# make bench-planted
#              that the patches in patches/slow are seen by what should see them
# make bench-harness
#              the time to the first test in a VM, beside vmtest's own runner,
#              and the guest's readers, beside a loop in C
# make proof   judge the designs and the planted bugs in patches/; what is done
#              is not done again; SHARD=1/3 for a third of it
# make soak    judge the sound designs N=100 times; CONFIG=rt with that
#              preemption model
# make validate
#              what the workflow of that name does with KSRC, SERIES, CONTRACT,
#              CHECKS (go test's -run, or short), CONFIG (kernel configurations),
#              ACCEL (accelerators) and SHARDS=N, all of it on this machine; its
#              steps are validate-kernel, validate-shard SHARD=1/3, validate-merge
# make clean   forget the artifacts of past runs; kernels stay in the cache

GO ?= go
RINGPROOF = $(GO) run ./cmd/ringproof

# On the command line alone: in a kernel developer's environment, V says how
# much make tells.
ifeq ($(origin V),command line)
VERSION = -v $(V)
endif

# The kernel's make takes these, from its command line alone.
NOT_OURS := $(strip $(foreach v,C W O M MO,$(if $(filter command,$(origin $v)),$v=)))
ifneq ($(NOT_OURS),)
$(error $(NOT_OURS) is for the kernel's own make: leave it out. Kernels are built in ringproof's cache, and what their build prints is in a log there)
endif

.PHONY: check help revisions test proof soak kernels fuzz bench bench-planted bench-harness validate validate-kernel validate-shard validate-merge deps clean

check: deps
	$(RINGPROOF) check $(if $(SHORT),-short) $(VERSION)

revisions: deps
	$(RINGPROOF) revisions $(if $(SHORT),-short) $(SERIES)

help:
	@sed '/^#/!Q; s/^# \{0,1\}//' $(firstword $(MAKEFILE_LIST))

# The reference series breaks its promises in the tests that are left out, as
# version 9 did; selftest sees to it that it does.
test: DEPS = -config modular
test: deps
	@test -z "$$(gofmt -l .)" || { gofmt -d .; exit 1; }
	$(GO) vet ./...
	$(GO) run github.com/rhysd/actionlint/cmd/actionlint@v1.7.12
	corpus=$$(mktemp -d) && GODEBUG=fuzzseed=1 $(FUZZ) -parallel=1 -fuzztime=300x ./internal/host/kernel -args -test.fuzzcachedir=$$corpus && rm -r $$corpus
	$(MAKE) kernels
	KERNEL="$$($(RINGPROOF) kernel -series patches/designs/lossless -config pc -config crash)" $(GO) test -count=1 -timeout=40m -p=1 -skip='^TestNoStall$$/^detach$$|^Test(ControlSchedules|RequeueSchedules|Faults)$$' ./...

# The planted bugs that selftest boots; make proof has them all.
BUGS = alters leaks never-wakes no-recheck stops-noqueue vhost-never-wakes trims-twice flag-outlives-reopen

# All kernels that the tests boot, with progress that go test would hide. modular
# comes with pc: going there and back compiles a hundred files, and the tests
# build more kernels without pc, which share no object files with those.
kernels:
	$(RINGPROOF) kernel
	$(RINGPROOF) kernel -series patches/designs/lossless
	$(RINGPROOF) kernel -series patches/designs/opt-in-2
	for bug in $(BUGS:%=patches/bugs/%.patch); do $(RINGPROOF) kernel -series patches/designs/$$(sed -n 's/^Design: //p' $$bug) -series $$bug || exit; done
	$(RINGPROOF) kernel -series patches/designs/lossless -config pc -config crash
	$(RINGPROOF) kernel -series patches/designs/lossless -config pc -config crash -config modular

proof: deps
	$(RINGPROOF) proof $(if $(SHARD),-shard $(SHARD)) -baseline $(or $(BASELINE),10s)

soak: deps
	$(RINGPROOF) soak $(if $(N),-n $(N)) $(CONFIG:%=-config %)

# A cell is one kernel configuration and one accelerator. Its shards may be run on
# other machines: each needs the kernel's directory, and validate-merge all shards'.
override VALIDATE = artifacts/validate
CELL = $(VALIDATE)/$(or $(CONFIG),base)-$(or $(ACCEL),auto)

# Only what these targets have made: whatever else is there is somebody's.
FORGET_VALIDATE = rm -rf $(VALIDATE)/kernel-* $(VALIDATE)/*/shard-* $(VALIDATE)/*/verdict $(VALIDATE)/summary.md; \
	[ ! -d $(VALIDATE) ] || find $(VALIDATE) -depth -type d -empty -delete

validate:
	$(FORGET_VALIDATE)
	for config in $(or $(CONFIG),base); do \
		$(MAKE) validate-kernel CONFIG=$$config || exit; \
		for accel in $(or $(ACCEL),auto); do for n in $$(seq $(or $(SHARDS),1)); do \
			$(MAKE) validate-shard CONFIG=$$config ACCEL=$$accel SHARD=$$n/$(or $(SHARDS),1) || :; \
		done; done; \
	done
	$(MAKE) validate-merge

validate-kernel: DEPS = $(CONFIG:%=-config %)
validate-kernel: deps
	$(RINGPROOF) kernel $(CONFIG:%=-config %) $(if $(SERIES),-series "$$SERIES") $(VERSION) -o $(VALIDATE)/kernel-$(or $(CONFIG),base)

validate-shard: DEPS = -run
validate-shard: deps
	rm -rf $(CELL)/shard-$(subst /,-of-,$(SHARD))
	ACCEL=$(or $(ACCEL),auto) $(RINGPROOF) run -kernel $(VALIDATE)/kernel-$(or $(CONFIG),base) -shard $(SHARD) $(if $(filter short,$(CHECKS)),-short,$(if $(CHECKS),-run "$$CHECKS")) -o $(CELL)/shard-$(subst /,-of-,$(SHARD))

# A cell of which nothing is there has been lost, and is no good one.
validate-merge:
	@mkdir -p $(VALIDATE); : > $(VALIDATE)/summary.new; worst=0; for cell in $(VALIDATE)/*/; do cell=$${cell%/}; case $$cell in */kernel-*) continue; esac; \
		[ -d "$$cell" ] || { echo "there are no shards in $(VALIDATE)" >&2; exit 1; }; \
		rm -rf "$$cell/verdict"; \
		$(RINGPROOF) merge -label "$${cell##*/}" -o "$$cell/verdict" $$(ls -d "$$cell"/shard-* 2>/dev/null) || worst=$$?; \
		{ printf '# %s\n\n' "$${cell##*/}"; cat "$$cell/verdict/verdict.md" || echo "No verdict."; } >> $(VALIDATE)/summary.new; \
	done; mv $(VALIDATE)/summary.new $(VALIDATE)/summary.md; exit $$worst

FUZZ = $(GO) test -run='^$$' -fuzz=FuzzSeries -fuzzminimizetime=5x

fuzz: deps
	$(FUZZ) -fuzztime=$(or $(TIME),60s) ./internal/host/kernel

bench: DEPS = -bench
bench: deps
	$(RINGPROOF) bench $(if $(QUICK),-ruler instructions)

bench-planted: deps
	$(RINGPROOF) bench -planted

bench-harness: deps
	$(GO) test ./selftest -run='^$$' -bench=. -benchtime=5x -timeout=30m

# go run is silent while it compiles; this names each package that it compiles,
# and nothing if there is none. What it compiles to run is in a directory that
# may be mounted noexec.
deps:
	@dir=$$($(GO) env GOTMPDIR); t=$$(mktemp -p "$${dir:-$${TMPDIR:-/tmp}}") && printf '#!/bin/sh\n' >"$$t" && chmod +x "$$t"; \
	"$$t" || { echo "go runs programs in $${t%/*}, where nothing can be run: set GOTMPDIR to another directory" >&2; rm -f "$$t"; exit 1; }; rm -f "$$t"
	@$(GO) build -buildvcs=false -v ./cmd/... ./internal/host/...
	@$(RINGPROOF) deps $(DEPS)

# Only what a run or a proof has made: whatever else is there is somebody's.
clean:
	for events in artifacts/*/events.jsonl; do [ ! -f "$$events" ] || rm -rf "$${events%/*}"; done
	rm -f artifacts/last artifacts/proof/*.json
	$(FORGET_VALIDATE)
	[ ! -d artifacts/proof ] || rmdir --ignore-fail-on-non-empty artifacts/proof
	[ ! -d artifacts ] || rmdir --ignore-fail-on-non-empty artifacts
