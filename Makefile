# placer's commands. What: builds, runs, tests and checks everything; `make` alone lists the targets.
# Why: the two that matter, `make run` and `make test`, work on a machine that has only Rust.
# How: each target gets what it needs by itself (`deps`, `deps-test`: instant when all is there) and
# then calls cargo, or a script that explains itself with --help or in its first lines.

CARGO ?= cargo
# the lock file counts: what was tested is what is built
LOCKED ?= --locked
TOOLS = $${XDG_CACHE_HOME:-$$HOME/.cache}/placer-tools/bin
BUILT = $${CARGO_TARGET_DIR:-target}/release
# What is shipped holds no path of the home directory that it was built in, so that two builders make the same bytes.
REMAPPED = --config "build.rustflags=['--remap-path-prefix=$${CARGO_HOME:-$$HOME/.cargo}=/cargo']"
RELEASE = --release $(LOCKED) $(REMAPPED)
# Tests of the programs as they are shipped, by the test program of the debug build.
INSTALLED = PLACER_INSTALLED=$$PWD/target/package/placer PLACER_TOP_INSTALLED=$$(realpath -m $(BUILT))/placer-top

# Where the engine's speed does not count it is compiled less well: 100 CPU seconds in place of 250 after a change
# of it, and its unit tests take as long
SOON = --config profile.test.package.placer-engine.opt-level=1 --config profile.test.package.testkit.opt-level=1

# how long and how `make fuzz` works
FUZZ_SECONDS ?= 60
FUZZ = $(TOOLS)/cargo-fuzz run --target-dir target/fuzz
FUZZED = -max_total_time=$(FUZZ_SECONDS) -timeout=10 -print_final_stats=1

# what `make mutants` changes: where one digit decides, and a unit test is to notice
MUTATED ?= units.rs idset.rs policy/numad.rs policy/numad/*.rs policy/best/pareto.rs claims/ledger.rs

# where `make install` puts things; DESTDIR goes before each
PREFIX ?= /usr/local
DESTDIR ?=
ZSH_COMPLETIONS ?= $(PREFIX)/share/zsh/site-functions
export PREFIX DESTDIR ZSH_COMPLETIONS

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help run build static capi companions check test test-balance test-best test-caches test-moves test-parity test-vm test-xml test-launches test-daemon test-storm test-claims fuzz mutants lint bench bench-embedding bench-peers fixtures pictures \
	book extras install uninstall deb rpm dist pack test-deb test-rpm test-packed test-start test-reproducible test-publish test-arch check-arch deps deps-test \
	deps-lint deps-arch deps-deb deps-rpm deps-fuzz deps-mutants deps-book clean

help: ## Lists these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: build ## Builds placer and prints this host and advice for a guest of 4 CPUs and 500 MiB
	$(BUILT)/placer show
	$(BUILT)/placer advise 4:500

build: deps ## Builds the release binaries
	$(CARGO) build $(RELEASE) --features hwloc

# static-pie, so that no library is loaded and bound at each start, which
# was a sixth of the time of an answer. It links no libhwloc (placer-hwloc does), draws nothing (placer-top).
static: deps ## Builds placer as it is installed, without shared libraries: target/package/placer
	$(CARGO) rustc $(RELEASE) --bin placer --no-default-features \
		-- -C target-feature=+crt-static
	@mkdir -p target/package && cp $(BUILT)/placer target/package/placer

companions: deps
	$(CARGO) build $(RELEASE) --features hwloc --bin placer-top --bin placer-hwloc

capi: deps ## Builds libplacer, the engine for programs in C, with its header: target/package/capi
	$(CARGO) build --profile capi $(LOCKED) $(REMAPPED) -p placer-capi
	STRIP=yes bindings/c/link $${CARGO_TARGET_DIR:-target}/capi/libplacer_c.a target/package/capi

.PHONY: spank
spank: deps ## Builds placer-spank.so for one release of Slurm: make spank SLURM=24.11
	@[ -n "$(SLURM)" ] || { echo 'make spank SLURM=24.11 (what srun --version prints)' >&2; exit 2; }
	PLACER_SLURM=$(SLURM) $(CARGO) build --profile capi $(LOCKED) $(REMAPPED) -p placer-spank
	install -D -m 644 $${CARGO_TARGET_DIR:-target}/capi/libplacer_spank.so target/package/spank/placer-spank-$(SLURM).so
	strip --strip-unneeded target/package/spank/placer-spank-$(SLURM).so

check: deps deps-lint ## Runs unit and golden tests and the lints: before each commit (3 minutes)
	$(CARGO) test -q --workspace --lib --bins $(LOCKED) $(SOON)
	$(CARGO) test -q --package numaplacer --test it $(LOCKED) $(SOON) -- golden:: fixtures:: readme:: help:: architecture:: language::
	$(CARGO) fmt --all --check
	$(CARGO) clippy -q --workspace --all-targets $(LOCKED) -- -D warnings

test: deps deps-test ## Runs every test: with hwloc, without it, and in virtual machines
	$(CARGO) test --workspace $(LOCKED)
	@$(MAKE) --no-print-directory static companions
	$(INSTALLED) $(CARGO) test --test budgets $(LOCKED) -- --ignored a_picture
	$(INSTALLED) $(CARGO) test --test it $(LOCKED) -- cli::
	$(INSTALLED) $(CARGO) test --test it $(LOCKED) -- --include-ignored --test-threads=1 \
		start_budgets:: a_panic_gives_the_terminal_back
	$(CARGO) run -q -p placer-engine --example embed $(LOCKED)
	@$(MAKE) --no-print-directory pack test-packed test-daemon test-vm

.PHONY: test-together
test-together: deps ## Several guests at once: 5,000 hosts against brute force, beside one-by-one rules, 16 guests on 8 nodes
	$(CARGO) test --release -p placer-engine --test it $(LOCKED) -- --include-ignored --nocapture --test-threads=1 together::

test-daemon: static ## Abuses the daemon for a minute, kills it under 500 launches, asks it a million times
	$(INSTALLED) PLACER_SOAK_SECONDS=60 $(CARGO) test --test it $(LOCKED) -- --nocapture \
		--test-threads=1 socket_and_queue killed_again memory_stays
	$(INSTALLED) $(CARGO) test --test it $(LOCKED) -- --ignored --nocapture 15_000_threads

test-storm: deps ## Starts 2,400 pinned guests, 1,000 at once, kills 1,000: no CPU has two owners (minutes)
	$(CARGO) test --test it $(LOCKED) -- --ignored --nocapture storm_of_2400

test-claims: static deps-test ## 1,000 clients claim for a minute, also beside 64 hostile users; 1,000 kills; a storm of mixed callers
	$(INSTALLED) $(CARGO) test --test it $(LOCKED) -- --ignored --nocapture --test-threads=1 claim_storms::
	PLACER_REQUIRE_VM=1 $(CARGO) test --test vm $(LOCKED) -- --ignored --nocapture storm_of_64

test-best: deps ## Compares policy best with brute force on BEST_HOSTS=100000 hosts of unusual shape (3 minutes)
	$(CARGO) test $(RELEASE) -p placer-engine --test it -- --ignored --nocapture best_brute::

test-balance: deps ## Compares plans with all assignments on 5,000 small hosts, room with 2,000; times 200 guests (minutes)
	$(CARGO) test $(RELEASE) -p placer-engine --test it -- --ignored --nocapture --test-threads=1 balance::

.PHONY: test-manage
test-manage: deps ## Simulates 100 hours on 2 to 16 nodes under numad's daemon, the kernel and placer: speed, GiB, returns (minutes)
	$(CARGO) test $(RELEASE) --test it -- --ignored --nocapture manage::

test-caches: deps ## Counts guests across caches on STRADDLE_HOSTS=10000 made-up hosts, by four rules (minutes)
	STRADDLE_HOSTS=$${STRADDLE_HOSTS:-10000} \
		$(CARGO) test --test it $(LOCKED) -- --nocapture no_guest_straddles

test-parity: deps deps-test ## Asks both versions of the real numad 3,000 generated questions each (5 minutes)
	$(CARGO) test $(RELEASE) --test it -- --ignored --nocapture parity::three_thousand

check-arch: deps deps-arch ## Checks that placer compiles for aarch64, ppc64le and s390x (a minute each)
	PLACER_REQUIRE_ARCH=1 ci/arch aarch64 ppc64le s390x

# Not in `make test`: it compiles engine, launcher and program twice more.
test-arch: deps deps-test deps-arch ## Tests placer of aarch64 and s390x in emulation: unit tests, 2,205 recorded answers (15 CPU minutes)
	ci/test-arch aarch64 s390x

test-launches: deps deps-test ## Starts 200 guests under faults of system calls, each of which libvirt alone starts
	$(CARGO) test --test it $(LOCKED) -- --ignored --nocapture launch_faults::

test-xml: deps deps-test ## Places the 1,057 definitions of libvirt's own tests (9 MB to fetch), and prints the counts
	ci/libvirt-source
	$(CARGO) test --test it $(LOCKED) -- --ignored --nocapture libvirt_corpus::

test-moves: deps deps-test ## Moves guests in a booted guest of 4 nodes, kills placer balance --apply 200 times, runs both numads beside it (two hours)
	PLACER_REQUIRE_VM=1 $(CARGO) test --test vm $(LOCKED) -- --ignored --nocapture --test-threads=1 moved::

.PHONY: test-ranks
test-ranks: deps deps-test ## Starts 1,000 steps of 8 ranks in a booted guest, and kills a rank of each (an hour)
	PLACER_REQUIRE_VM=1 $(CARGO) test --test vm $(LOCKED) -- --ignored --nocapture a_thousand_steps

.PHONY: test-fleet
test-fleet: deps ## Places containers (podman, Docker, containerd, NRI), tasks of Slurm and ranks of MPI in booted guests (half an hour)
	tests/vm/numa-vm --ready 2>/dev/null || tests/vm/numa-vm --setup
	for kind in fleet podman4 hpc12 hpc13; do tests/vm/root-image $$kind >/dev/null || exit 1; done
	PLACER_REQUIRE_VM=1 $(CARGO) test --test vm $(LOCKED) -- --ignored --nocapture --test-threads=1 fleet:: batch::

.PHONY: test-domains
test-domains: deps deps-test ## Starts guests through libvirt and moves them, and ten command lines of QEMU (three quarters of an hour)
	tests/vm/root-image virt >/dev/null
	@[ -f target/placer.deb ] || $(MAKE) --no-print-directory deb
	PLACER_REQUIRE_VM=1 $(CARGO) test --test vm $(LOCKED) -- --ignored --nocapture domains::

test-vm: deps deps-test ## Runs the tests that boot virtual machines with many nodes
	@[ -f target/placer.deb ] || $(MAKE) --no-print-directory deb
	PLACER_REQUIRE_VM=1 $(CARGO) test --test vm $(LOCKED) -- --ignored --nocapture --test-threads=2 --skip storm_of_64 --skip moved:: --skip fleet:: --skip batch:: --skip domains:: --skip a_thousand_steps

fuzz: deps deps-fuzz ## Fuzzes the daemon's socket and methods, numad's queue, the ledger and policy best, FUZZ_SECONDS=60 each
	@cp Cargo.lock fuzz/Cargo.lock && mkdir -p fuzz/corpus/socket fuzz/corpus/methods fuzz/corpus/queue fuzz/corpus/best fuzz/corpus/ledger
	RUSTC_BOOTSTRAP=1 $(FUZZ) socket fuzz/corpus/socket fuzz/seeds/socket -- $(FUZZED) -dict=fuzz/socket.dict
	RUSTC_BOOTSTRAP=1 $(FUZZ) methods fuzz/corpus/methods -- $(FUZZED) -max_len=1024
	RUSTC_BOOTSTRAP=1 $(FUZZ) queue fuzz/corpus/queue fuzz/seeds/queue -- $(FUZZED)
	RUSTC_BOOTSTRAP=1 $(FUZZ) ledger fuzz/corpus/ledger fuzz/seeds/ledger -- $(FUZZED)
	RUSTC_BOOTSTRAP=1 $(FUZZ) best fuzz/corpus/best -- $(FUZZED) -max_len=1024

mutants: deps deps-mutants ## Puts small errors into the pure rules and the ledger: a unit test finds each (hours)
	$(TOOLS)/cargo-mutants mutants --package placer-engine $(MUTATED:%='--file=engine/src/%') --jobs 1 \
		--output target --cargo-arg=--config=profile.test.package.placer-engine.opt-level=1 -- --lib

lint: deps deps-lint ## Checks format, clippy, docs, public API, Rust version and scripts; warnings are errors
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets $(LOCKED) -- -D warnings
	$(CARGO) clippy --workspace --no-default-features $(LOCKED) -- -D warnings
	$(CARGO) rustc -q --lib --profile check $(LOCKED) -- --cfg fuzzing -D warnings
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --workspace --no-deps $(LOCKED)
	ci/public-api
	ci/check-rust-version
	ci/check-scripts
	ci/arch s390x

bench: deps ## Measures parsing, sampling and deciding on fixed inputs (criterion)
	$(CARGO) bench --workspace $(LOCKED) $(REMAPPED)

bench-embedding: static capi deps-test ## Measures libplacer beside the Rust call, and the C and Python clients of the daemon
	$(CARGO) bench --profile capi $(LOCKED) -p placer-capi --bench embedding

bench-peers: build deps-test ## Measures placer against numad, numactl and lstopo in turn
	benches/vs-peers --placer $(BUILT)/placer

fixtures: build deps-test ## Rebuilds sysfs-fixtures from virtual machines (4 minutes)
	sysfs-fixtures/rebuild

pictures: build ## Draws the pictures of README and guide anew, from recorded machines
	PLACER=$(BUILT)/placer docs/make-pictures

book: deps-book ## Draws the user guide, docs/, as pages in target/book (mdbook)
	PATH="$(TOOLS):$$PATH" mdbook build docs --dest-dir "$$(pwd)/target/book"

extras: deps ## Writes what lies beside the program in a package: manual pages, completions, settings
	$(CARGO) run -q $(LOCKED) -p placer-extras -- target/package

install: companions static extras capi ## Installs below DESTDIR and PREFIX (/usr/local); what, says packaging/install
	packaging/install $(BUILT) target/package
	packaging/install-lib target/package/capi

uninstall: ## Removes what `make install` with the same DESTDIR and PREFIX has installed
	packaging/install --remove
	packaging/install-lib --remove

deb: companions static capi pack ## Makes the Debian packages placer, which takes numad's place, libplacer0 and libplacer-dev
	packaging/make-lib-debs target/package/capi target

rpm: companions static extras capi deps-rpm ## Makes the RPM packages placer, placer-numad, placer-libs, placer-devel in target/dist
	packaging/make-rpm $(BUILT) target/package target/dist

dist: deb rpm ## Makes every package: .deb, .rpm, and an archive of the static program, in target/dist
	packaging/make-archive target/package target/dist
	cp target/placer.deb target/libplacer*.deb target/dist/

pack: extras deps-deb
	packaging/make-deb $(BUILT) target/package target/placer.deb

test-deb: deps-test deb test-packed ## Installs, upgrades, removes, purges those packages in throw-away roots
	PLACER_REQUIRE_VM=1 packaging/lib-deb-test target

test-start: deps-test deb ## Holds that virsh start takes no longer through that package (1 to 4 minutes)
	packaging/start-test target/placer.deb

test-rpm: companions static extras capi deps-rpm deps-test ## Installs, upgrades, removes the RPM packages in a throw-away root
	packaging/rpm-test $(BUILT) target/package

test-reproducible: deb ## Makes the .deb of a clone again, in another home directory: the same bytes (6 minutes)
	packaging/reproducible-test target/placer.deb

test-publish: deps ## Checks that the crates can be uploaded to the Rust registry, from a clean clone (3 minutes)
	ci/publishable

test-packed: deps-rpm
	packaging/install-test $(BUILT) target/package target/placer.deb
	packaging/deb-lint $(BUILT) target/package target/placer.deb
	packaging/archive-test target/package
	PLACER_REQUIRE_VM=1 packaging/deb-test target/placer.deb
	packaging/rpm-test $(BUILT) target/package

deps: ## Installs what building needs, where it is missing
	@ci/deps build

deps-test: ## Installs what testing needs, where it is missing (numad, numactl, hwloc, QEMU, a guest kernel)
	@ci/deps test

deps-lint:
	@ci/deps lint

deps-arch:
	@ci/deps arch

deps-deb:
	@ci/deps deb

deps-rpm:
	@ci/deps rpm

deps-fuzz:
	@ci/deps fuzz

deps-mutants:
	@ci/deps mutants

deps-book:
	@ci/deps book

clean: ## Removes everything that was built
	$(CARGO) clean
