# Fault tests on real processes, see README.md here.
MATRIX  ?= sample
RUNS    ?= 23
SECONDS ?=

$(BUILD)/kvjepsen: $(call obj,$(call src,jepsen)) $(call libs,tools)
	$(link)
# Preloaded into nodes: no sanitizer of its own, since it must run under any program.
$(BUILD)/libkvjepsen_disk.so: jepsen/shim/disk.c jepsen/shim/shim.h
	@mkdir -p $(@D)
	$(CC) -std=c11 -D_GNU_SOURCE -g -O2 -fPIC -shared -pthread $(WARN) -I. -o $@ $< -ldl
jepsen-built: all $(BUILD)/kvjepsen $(BUILD)/libkvjepsen_disk.so
$(BUILD)/jepsen_disk: $(call obj,tests/e2e/jepsen_disk.c jepsen/undo.c) $(call libs,base)
	$(link)
tests-built: $(BUILD)/kvjepsen $(BUILD)/libkvjepsen_disk.so $(BUILD)/jepsen_disk
jepsen: ## real processes, real faults: a sample, or MATRIX=full; SEED= RUNS= SECONDS= JOBS=
	@$(MAKE) --no-print-directory -s deps-dev
	@$(MAKE) --no-print-directory -s -j$(JOBS) jepsen-built
	@BUILD=$(BUILD) sh jepsen/run --matrix $(MATRIX) --jobs $(JOBS) --runs $(RUNS) $(if $(SECONDS),--seconds $(SECONDS)) $(if $(SEED),--seed $(SEED))
.PHONY: jepsen jepsen-built
