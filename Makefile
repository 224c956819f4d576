# make check   the contract on a stock and on a patched kernel, side by side
#              KSRC=tree SERIES=series.mbox for your own, SHORT=1 for seconds
# make test    everything: static checks, unit tests, VM tests, and that the
#              harness itself behaves
# make clean   forget the artifacts of past runs; kernels stay in the cache

GO ?= go

.PHONY: check test deps clean

check: deps
	$(GO) run ./cmd/ringproof check $(if $(SHORT),-short)

test: deps
	@test -z "$$(gofmt -l .)" || { gofmt -d .; exit 1; }
	$(GO) vet ./...
	$(GO) run github.com/rhysd/actionlint/cmd/actionlint@v1.7.12
	$(GO) run ./cmd/ringproof kernels
	KERNEL="$$($(GO) run ./cmd/ringproof kernel)" $(GO) test -count=1 -timeout=30m -p=1 $$($(GO) list ./... | grep -v /vmtests$$)

deps:
	@$(GO) run ./cmd/ringproof deps

clean:
	rm -rf artifacts
