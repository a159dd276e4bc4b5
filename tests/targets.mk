# The targets people call; `make help` prints the ## comments.
SEEDS ?= 1..20
SIM_SECONDS ?= 60
FUZZ_SECONDS ?= 60

all: $(programs) ## build everything into build/
help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

deps: ## install the missing Debian packages for build and run
	@sh tools/deps build
deps-test: ## and those for the tests
	@sh tools/deps test
deps-dev: ## and those for the static checks, the fuzzers and the bench
	@sh tools/deps dev

run: deps ## build, start three nodes, load the package catalogue, kill the leader, look
	@echo "building (the first time takes about a minute)"
	@$(MAKE) --no-print-directory -s -j$(JOBS) all
	@sh tools/demo

test: deps-test ## all tests that a pull request must pass
	@echo "building programs and tests"
	@$(MAKE) --no-print-directory -s -j$(JOBS) all tests-built
	@sh tests/all.sh $(BUILD)
tests-built: $(unit_bin) $(BUILD)/example $(BUILD)/differential $(BUILD)/disk_fault.so $(BUILD)/hostile $(BUILD)/rewrite_row $(BUILD)/slow_line $(BUILD)/splits $(BUILD)/counts
unit: $(unit_bin) ## the unit tests alone
	@sh tests/run.sh $(unit_bin)
check: layers ## layers, and both compilers without a warning
	@$(MAKE) --no-print-directory -s -j$(JOBS) BUILD=$(BUILD)/clang CC=clang all
layers: ## fail if a file reaches above its layer
	@tools/layers.sh
sanitize: ## unit and end-to-end tests under ASan and UBSan, but for those that measure time
	@$(MAKE) --no-print-directory -s -j$(JOBS) BUILD=$(BUILD)/asan SANITIZE=address,undefined OPT=-O1 all tests-built
	@E2E_SKIP="clock cut failover half_open hostile,workers=2 jepsen kvbench levels memory quiet reshape scale zipf" RSS_SLACK_MB=300 sh tests/all.sh $(BUILD)/asan # times and rates are for plain builds. Slack: of shadows, red zones and the quarantine; plain builds know no slack
tsan: ## the end-to-end tests under ThreadSanitizer; not in CI, it takes ten minutes
	@$(MAKE) --no-print-directory -s -j$(JOBS) BUILD=$(BUILD)/tsan SANITIZE=thread OPT=-O1 all tests-built $(BUILD)/tsan/tsan_openat.so
	@sh tests/tsan.sh $(BUILD)/tsan $(TESTS)
bench: ## ratios against redis and etcd; ROW=name ROUNDS=n for one row
	@$(MAKE) --no-print-directory -s deps-dev
	@$(MAKE) --no-print-directory -s -j$(JOBS) all $(BUILD)/splits
	@sh tools/bench $(ROW)
tidy: $(gen) ## clang-tidy over the sources, shellcheck over the scripts
	@mkdir -p $(BUILD)/tidy
	@printf '%s\n' -std=c11 -D_GNU_SOURCE -I$(CURDIR) -isystem $(abspath $(BUILD))/gen >$(BUILD)/tidy/compile_flags.txt
	@git ls-files client raft server storage tools jepsen tests/sim tests/fuzz tests/e2e | grep '\.c$$' | \
	    xargs -n 4 -P $(JOBS) clang-tidy -quiet -p $(BUILD)/tidy 2>/dev/null
	@git grep -lE '^#!/bin/(ba)?sh' | xargs shellcheck -S warning -x -P SCRIPTDIR
format: ## clang-format, in place, of the files that differ from HEAD
	@{ git diff --name-only --diff-filter=d HEAD; git ls-files -o --exclude-standard; } | grep '\.[ch]$$' | xargs -r clang-format -i

fuzz_src = $(wildcard tests/fuzz/fuzz_*.c)
fuzz_bin = $(patsubst tests/fuzz/%.c,$(BUILD)/fuzz/bin/%,$(fuzz_src))
fuzz: ## every fuzzer for FUZZ_SECONDS, with the stored corpus
	@$(MAKE) --no-print-directory -s -j$(JOBS) BUILD=$(BUILD)/fuzz CC=clang OPT=-O1 SANITIZE=fuzzer-no-link,address,undefined fuzz-built
	@sh tests/fuzz/run.sh $(BUILD)/fuzz $(FUZZ_SECONDS)
fuzz-built: $(patsubst tests/fuzz/%.c,$(BUILD)/bin/%,$(fuzz_src))
$(BUILD)/bin/fuzz_%: $(BUILD)/obj/tests/fuzz/fuzz_%.o $(call libs,tools)
	@mkdir -p $(@D)
	clang -g -pthread -fsanitize=fuzzer,address,undefined -o $@ $(filter %.o,$^) $(filter %.a,$^) $(LIBS)

sim: $(BUILD)/kvsim ## SEED=n replays one seed, SEEDS=a..b sweeps
	@$(BUILD)/kvsim --seconds $(SIM_SECONDS) $(if $(SEED),--seed $(SEED),--seeds $(SEEDS) --jobs $(JOBS))
mutants: ## search for every planted bug (NAMES="a b", SEEDS=n), record where; REPLAY=1 looks where it is recorded
	@$(MAKE) --no-print-directory -s -j$(JOBS) BUILD=$(BUILD)/mutants DEFINES='-include tests/sim/mutant.h' $(BUILD)/mutants/kvsim
	@$(if $(filter command environment,$(origin SEEDS)),SEEDS=$(SEEDS)) JOBS=$(JOBS) sh tests/sim/mutants.sh $(BUILD)/mutants $(if $(REPLAY),replay,search $(NAMES))

$(BUILD)/example: $(call obj,tests/e2e/example.c) $(call libs,client)
	$(link)
$(BUILD)/differential: $(call obj,tests/e2e/differential.c) $(call libs,wire)
	$(link)

$(BUILD)/splits: $(call obj,tests/e2e/splits.c) $(call libs,client)
	$(link)
$(BUILD)/slow_line: $(call obj,tests/e2e/slow_line.c)
	$(link)
$(BUILD)/counts: $(call obj,tests/e2e/counts.c) $(call libs,client)
	$(link)
$(BUILD)/rewrite_row: $(call obj,tests/e2e/rewrite_row.c) $(call libs,storage)
	$(link)
# Loaded into any build, so never instrumented itself.
$(BUILD)/disk_fault.so $(BUILD)/tsan_openat.so: $(BUILD)/%.so: tests/shim/%.c
	@mkdir -p $(@D)
	$(CC) -std=c11 -D_GNU_SOURCE -g -O2 $(WARN) -fPIC -shared -o $@ $<

$(BUILD)/hostile: $(call obj,tests/e2e/hostile.c) $(call libs,wire)
	$(link)

install: all ## copy the programs to PREFIX/bin
	install -d $(DESTDIR)$(PREFIX)/bin
	install -m 755 $(programs) $(DESTDIR)$(PREFIX)/bin
uninstall: ## and remove them
	rm -f $(addprefix $(DESTDIR)$(PREFIX)/bin/,$(notdir $(programs)))
clean: ## remove build/
	rm -rf $(BUILD)
.PHONY: all help deps deps-test deps-dev run test tests-built unit check layers sanitize tsan bench tidy format fuzz fuzz-built sim mutants install uninstall clean
