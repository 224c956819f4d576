# make check   test a stock and a patched kernel, and show the results side by side;
#              KSRC=source SERIES=series.mbox tests your own, V=2 takes version 2
#              of the series, SHORT=1 takes seconds instead of minutes;
#              a source is a tree, a tar file, debian:7.3 or debian:sid
#              DRIVER=veth tests veth instead of tun
#              ARCH=arm64 builds for that and runs it in an emulated machine
# make revisions
#              test the revisions of a series, one after the other, and show what
#              changed: SERIES="v9.mbox v12.mbox" KSRC=source
# make help    print this text
# make test    static checks, unit tests, the contract in VMs, and tests of the
#              harness itself; proof and soak are not included
# make fuzz    mutate series for TIME=60s, read them, and compare with git;
#              make test does this with a few hundred, mostly the same each time
# make bench   measure what a patch costs, in instructions and in time: BASE= and
#              PATCHED= are each a bzImage, a design, a series or a source; SERIES=
#              with EACH=1 compares each patch with the one before it; QUICK=1
#              leaves out the slow part
# make bench-planted
#              check that the slow patches in patches/slow are found
# make bench-harness
#              measure the time to the first test in a VM, beside vmtest's own runner,
#              and the guest's readers, beside a loop in C
# make proof   test the designs and the planted bugs in patches/; finished jobs are
#              not repeated; SHARD=1/3 does a third of them
# make soak    test the sound designs N=100 times; CONFIG=rt does it with that
#              preemption model
# make validate
#              run the workflow of that name on this machine, with KSRC, SERIES,
#              CONTRACT, CHECKS (go test's -run, or short), CONFIG (kernel
#              configurations), ACCEL (accelerators) and SHARDS=N; its steps are
#              validate-kernel, validate-shard SHARD=1/3 and validate-merge
# make clean   remove the artifacts of past runs; kernels stay in the cache

GO ?= go
RINGPROOF = $(GO) run ./cmd/ringproof

# V counts only on the command line: in a kernel developer's environment it says
# how much make prints.
ifeq ($(origin V),command line)
VERSION = -v $(V)
endif

# The kernel's make takes these, and only from its command line.
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
# version 9 did. selftest checks that it does.
#
# Without QEMU for arm64 selftest leaves that out, and says so.
test: DEPS = -config modular
test: deps
	-@ARCH=arm64 $(RINGPROOF) deps -run
	@test -z "$$(gofmt -l .)" || { gofmt -d .; exit 1; }
	$(GO) vet ./...
	$(GO) run github.com/rhysd/actionlint/cmd/actionlint@v1.7.12
	corpus=$$(mktemp -d) && GODEBUG=fuzzseed=1 $(FUZZ) -parallel=1 -fuzztime=300x ./internal/host/kernel -args -test.fuzzcachedir=$$corpus && rm -r $$corpus
	$(MAKE) kernels
	KERNEL="$$($(RINGPROOF) kernel -series patches/designs/lossless -config pc -config crash)" $(GO) test -count=1 -timeout=40m -p=1 -skip='^TestNoStall$$/^detach$$|^Test(ControlSchedules|RequeueSchedules|Faults)$$' ./...
	DRIVER=veth KERNEL="$$($(RINGPROOF) kernel)" $(GO) test -count=1 -short -run='^Test(NoTailDrop|NoqueueDrops)$$' ./vmtests

# The planted bugs that selftest boots; make proof has them all.
BUGS = alters leaks never-wakes no-recheck stops-noqueue vhost-never-wakes trims-twice flag-outlives-reopen

# All kernels that the tests boot, with the progress that go test would hide.
# modular is combined with pc: switching modular on and off compiles a hundred
# files, and the kernels without pc, of which there are more, share no object files
# with these.
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

# A cell is one kernel configuration and one accelerator. Its shards can be run on
# other machines. Each needs the kernel's directory; validate-merge needs those of
# all shards.
override VALIDATE = artifacts/validate
CELL = $(VALIDATE)/$(or $(CONFIG),base)-$(or $(ACCEL),auto)

# Only what these targets have made. Other files there belong to somebody.
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

# A cell without any shard was lost. That must not count as a pass.
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

# go run is silent while it compiles. This names each package that it compiles, if
# there is any. The programs that it runs are in a directory that may be mounted
# noexec.
deps:
	@dir=$$($(GO) env GOTMPDIR); t=$$(mktemp -p "$${dir:-$${TMPDIR:-/tmp}}") && printf '#!/bin/sh\n' >"$$t" && chmod +x "$$t"; \
	"$$t" || { echo "go runs programs in $${t%/*}, where nothing can be run: set GOTMPDIR to another directory" >&2; rm -f "$$t"; exit 1; }; rm -f "$$t"
	@$(GO) build -buildvcs=false -v ./cmd/... ./internal/host/...
	@$(RINGPROOF) deps $(DEPS)

# bench.json marks a directory of ringproof bench.
FORGET_BENCH = for dir in artifacts/bench artifacts/bench/planted/*; do [ ! -f "$$dir/bench.json" ] || { \
		rm -rf "$$dir/boots" "$$dir/samples" "$$dir"/bench.txt "$$dir"/where.txt "$$dir"/*.bench "$$dir"/*/verdict.*; rm "$$dir/bench.json"; }; done; \
	[ ! -d artifacts/bench ] || find artifacts/bench -depth -type d -empty -delete

# Only what a run or a proof has made. Other files there belong to somebody.
clean:
	for events in artifacts/*/events.jsonl; do [ ! -f "$$events" ] || rm -rf "$${events%/*}"; done
	rm -f artifacts/last artifacts/proof/*.json
	$(FORGET_VALIDATE)
	$(FORGET_BENCH)
	[ ! -d artifacts/proof ] || rmdir --ignore-fail-on-non-empty artifacts/proof
	[ ! -d artifacts ] || rmdir --ignore-fail-on-non-empty artifacts
