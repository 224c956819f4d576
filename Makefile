# make check   the contract on a stock and on a patched kernel, side by side;
#              KSRC=source SERIES=series.mbox for your own, V=2 for its
#              version 2 where there are more, SHORT=1 for seconds;
#              a source is a tree, a tar file, debian:7.3 or debian:sid
# make revisions
#              the revisions of a series, one after the other, and what changed
#              from each to the next: SERIES="v9.mbox v12.mbox" KSRC=source
# make test    static checks, unit tests, the contract in VMs, and that the harness
#              itself behaves; not proof and soak
# make fuzz    read mutations of series for TIME=60s, and compare with git;
#              make test tries some hundred
# make bench   the time to the first test in a VM, beside vmtest's own runner,
#              and the guest's readers, beside a loop in C
# make proof   judge the designs and the planted bugs in patches/; what is done
#              is not done again; SHARD=1/3 for a third of it
# make soak    judge the sound designs N=100 times; CONFIG=rt with that
#              preemption model
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

.PHONY: check revisions test proof soak kernels fuzz bench deps clean

check: deps
	$(RINGPROOF) check $(if $(SHORT),-short) $(VERSION)

revisions: deps
	$(RINGPROOF) revisions $(if $(SHORT),-short) $(SERIES)

# The reference series breaks its promises in the tests that are left out, as
# version 9 did; selftest sees to it that it does.
test: DEPS = -config modular
test: deps
	@test -z "$$(gofmt -l .)" || { gofmt -d .; exit 1; }
	$(GO) vet ./...
	$(GO) run github.com/rhysd/actionlint/cmd/actionlint@v1.7.12
	corpus=$$(mktemp -d) && $(FUZZ) -fuzztime=300x ./internal/host/kernel -args -test.fuzzcachedir=$$corpus && rm -r $$corpus
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

FUZZ = $(GO) test -run='^$$' -fuzz=FuzzSeries -fuzzminimizetime=5x

fuzz: deps
	$(FUZZ) -fuzztime=$(or $(TIME),60s) ./internal/host/kernel

bench: deps
	$(GO) test ./selftest -run='^$$' -bench=. -benchtime=5x -timeout=30m

# go run is silent while it compiles; this names each package that it compiles,
# and nothing if there is none.
deps:
	@$(GO) build -buildvcs=false -v ./cmd/... ./internal/host/...
	@$(RINGPROOF) deps $(DEPS)

# Only what a run or a proof has made: whatever else is there is somebody's.
clean:
	for events in artifacts/*/events.jsonl; do [ ! -f "$$events" ] || rm -rf "$${events%/*}"; done
	rm -f artifacts/last artifacts/proof/*.json
	[ ! -d artifacts/proof ] || rmdir --ignore-fail-on-non-empty artifacts/proof
	[ ! -d artifacts ] || rmdir --ignore-fail-on-non-empty artifacts
