# The front door. `make help` lists what there is. Each target first installs the Debian packages that it needs and that are
# missing (packaging/apt.txt); with all of them there, no network is touched.

PREFIX ?= /usr/local
DESTDIR ?=
SEEDS ?= 10000
TIME ?= 60
ROUNDS ?= 200
SECONDS ?= 600
SWAPS ?= 1000
PYTHON := /usr/bin/python3
JOBS := $(shell nproc)
NEED := packaging/need
NINJA := ninja -j$(JOBS)
RUN := $(PYTHON) tests/run.py

.DEFAULT_GOAL := all
.PHONY: all build-release build-check build-fuzz install check demo bench sim crash soak swap fuzz format help clean

all: build-release

help:
	@echo 'make                       the release binary, build/skerry'
	@echo 'make install               installs it, stripped        PREFIX=$(PREFIX) DESTDIR='
	@echo 'make demo                  a broker with this host'\''s readings, live       DEMO_SECONDS=10 ends it'
	@echo 'make check                 everything that can be checked in one build; ends with "N passed, N failed"'
	@echo 'make bench                 side by side with other brokers                ARGS="--quick"'
	@echo '                           and the journal beside a bare loop of syncs    JOURNAL_ARGS="--quick"'
	@echo '                           and TLS beside a bare accept loop              TLS_ARGS="--quick"'
	@echo '                           and decisions of 10,000 rules beside a loop    ACL_ARGS="--strict"'
	@echo 'make sim                   simulated worlds             SEEDS=$(SEEDS), or one: SEED=7 STEPS=10000'
	@echo 'make crash                 brokers killed under load, and without power     ROUNDS=$(ROUNDS)'
	@echo 'make soak                  a steady backlog: nothing may grow                SECONDS=$(SECONDS)'
	@echo 'make swap                  certificates changed under 500 connected clients  SWAPS=$(SWAPS)'
	@echo 'make fuzz                  every fuzzer for a while     TIME=$(TIME) seconds each'
	@echo 'make format                formats the C sources'
	@echo 'make clean                 removes the build directories of these targets'
	@echo '.ci/run                    all of it, and once more under the sanitizers'

# Release

build/build.ninja:
	meson setup build --buildtype=release --prefix=$(PREFIX) -Db_lto=true -Db_pie=true -Dtests=false

build-release:
	@$(NEED) build
	@$(MAKE) --no-print-directory build/build.ninja
	@$(NINJA) -C build

install: build-release
	@test '$(PREFIX)' = "$$(meson introspect build --buildoptions | $(PYTHON) -c \
	  'import json, sys; print(next(o["value"] for o in json.load(sys.stdin) if o["name"] == "prefix"))')" \
	  || meson configure build --prefix='$(PREFIX)'
	DESTDIR='$(DESTDIR)' meson install -C build --strip

# Checks

build-check/build.ninja:
	meson setup build-check --buildtype=debugoptimized -Dwerror=true

build-check:
	@$(NEED) build check
	@$(MAKE) --no-print-directory build-check/build.ninja
	@$(NINJA) -C build-check

check: build-check
	@$(RUN) --build build-check --seeds $(SEEDS) unit purity docs normative sim integration crash

sim: build-check
ifdef SEED
	build-check/sim/skerry-sim --seed $(SEED) $(if $(STEPS),--steps $(STEPS))
else
	@$(RUN) --build build-check --seeds $(SEEDS) sim
endif

crash: build-check
	@$(RUN) --build build-check --rounds $(ROUNDS) crash

soak: build-check
	@$(RUN) --build build-check --seconds $(SECONDS) soak

swap: build-check
	@SKERRY=build-check/skerry SKERRY_TEST_SWAPS=$(SWAPS) $(PYTHON) -m pytest tests/integration/test_tls.py -q --tb=short -k swap_under_load

build-fuzz/build.ninja:
	CC=clang meson setup build-fuzz --buildtype=debugoptimized -Dwerror=true -Dtests=false -Dfuzz=true \
	  -Db_sanitize=address,undefined -Dc_args=-fno-sanitize-recover=all -Db_lundef=false

build-fuzz:
	@$(NEED) build check
	@$(MAKE) --no-print-directory build-fuzz/build.ninja
	@$(NINJA) -C build-fuzz

fuzz: build-fuzz
	@$(RUN) --build build-fuzz --seconds $(TIME) fuzz

# To see and to measure

demo: build-release
	@SKERRY=build/skerry examples/demo.sh

bench: build-release
	@$(NEED) bench
	@$(NINJA) -C build bench/forwarder bench/appender bench/handshakes bench/acl
	@SKERRY=build/skerry $(PYTHON) bench/run.py $(ARGS)
	@SKERRY=build/skerry $(PYTHON) bench/journal.py $(JOURNAL_ARGS)
	@SKERRY=build/skerry $(PYTHON) bench/tls.py $(TLS_ARGS)
	@build/bench/acl $(ACL_ARGS)

format:
	@$(NEED) format
	git ls-files -z --cached --others --exclude-standard -- '*.c' '*.h' | xargs -0 clang-format -i

clean:
	rm -rf build build-check build-asan build-tsan build-fuzz
