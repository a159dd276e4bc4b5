# kvd: `make help` lists the targets. Objects go to $(BUILD); nothing is written elsewhere.
BUILD    ?= build
CC       ?= cc
OPT      ?= -O2
SANITIZE ?=
DEFINES  ?=
PREFIX   ?= /usr/local
JOBS     ?= 2

WARN   = -Wall -Wextra -Wpedantic -Wconversion -Wshadow -Werror
# Flow warnings that guess wrong once the sanitizers have rewritten the code; plain builds keep them.
WARN_SANITIZE = $(if $(findstring clang,$(CC)),,-Wno-maybe-uninitialized -Wno-format-truncation)
CFLAGS = -std=c11 -D_GNU_SOURCE -g $(OPT) -fno-omit-frame-pointer $(WARN) $(DEFINES) -I. -isystem $(BUILD)/gen -MMD -MP \
         $(if $(SANITIZE),-fsanitize=$(SANITIZE) -fno-sanitize-recover=undefined $(WARN_SANITIZE))
LDFLAGS = -g -pthread $(if $(SANITIZE),-fsanitize=$(SANITIZE))
LIBS    = -luv -llmdb -lprotobuf-c -lsodium -lxxhash -ljansson -lyaml -lm

# Each layer is one static library; a program links the layers at or below its own.
protos   = client/wire/kv.proto server/peer.proto storage/command.proto
gen      = $(foreach p,$(protos),$(BUILD)/gen/$(basename $(notdir $(p))).pb-c.h)
src      = $(wildcard $(addsuffix /*.c,$(1)))
obj      = $(patsubst %.c,$(BUILD)/obj/%.o,$(1))
lib      = $(BUILD)/lib$(1).a

src_base    = $(call src,client/base)
src_env     = $(call src,client/env)
src_wire    = $(call src,client/wire)
src_client  = $(call src,client)
src_raft    = $(call src,raft)
src_storage = $(call src,storage)
src_server  = $(filter-out server/main.c,$(call src,server))
src_check   = $(call src,tools/check)
src_sim     = $(filter-out tests/sim/main.c,$(call src,tests/sim))
layers      = base env wire client raft storage server check sim
pb_wire     = kv
pb_server   = peer
pb_storage  = command

# What a layer links, itself first.
needs_base    = base
needs_env     = env base
needs_wire    = wire base
needs_client  = client wire env base
needs_raft    = raft
needs_storage = storage base
needs_server  = server client wire env storage raft base
needs_check   = check base
needs_tools   = server client wire env storage raft check base
needs_sim     = sim server client wire env storage raft check base

.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
.SECONDARY:
.SUFFIXES:

$(BUILD)/gen/%.pb-c.c $(BUILD)/gen/%.pb-c.h: client/wire/%.proto
	@mkdir -p $(@D)
	protoc-c -Iclient/wire --c_out=$(BUILD)/gen $<
$(BUILD)/gen/%.pb-c.c $(BUILD)/gen/%.pb-c.h: server/%.proto
	@mkdir -p $(@D)
	protoc-c -Iserver --c_out=$(BUILD)/gen $<
$(BUILD)/gen/%.pb-c.c $(BUILD)/gen/%.pb-c.h: storage/%.proto
	@mkdir -p $(@D)
	protoc-c -Istorage --c_out=$(BUILD)/gen $<
$(BUILD)/obj/gen/%.pb-c.o: $(BUILD)/gen/%.pb-c.c
	@mkdir -p $(@D)
	$(CC) -std=c11 -g $(OPT) -w $(if $(SANITIZE),-fsanitize=$(SANITIZE)) -I$(BUILD)/gen -c -o $@ $<
$(BUILD)/obj/%.o: %.c | $(gen)
	@mkdir -p $(@D)
	$(CC) $(CFLAGS) -c -o $@ $<

define layer_rule
$$(BUILD)/lib$(1).a: $$(call obj,$$(src_$(1))) $$(foreach p,$$(pb_$(1)),$$(BUILD)/obj/gen/$$(p).pb-c.o)
	@rm -f $$@
	ar rcs $$@ $$^
endef
$(foreach l,$(layers),$(eval $(call layer_rule,$(l))))
libs = $(foreach l,$(needs_$(1)),$(BUILD)/lib$(l).a)
link = $(CC) $(LDFLAGS) -o $@ $(filter %.o,$^) $(filter %.a,$^) $(LIBS)

# Programs
programs = $(addprefix $(BUILD)/,kvd kvctl kvbench kvlog kvsim)
$(BUILD)/kvd: $(call obj,server/main.c) $(call libs,server)
	$(link)
$(BUILD)/kvctl: $(call obj,$(call src,tools/kvctl)) $(call libs,tools)
	$(link) -ledit
$(BUILD)/kvbench: $(call obj,$(call src,tools/kvbench)) $(call libs,client)
	$(link) -lnghttp2
$(BUILD)/kvlog: $(call obj,$(call src,tools/kvlog) tools/kvctl/output.c) $(call libs,tools)
	$(link)
$(BUILD)/kvsim: $(call obj,tests/sim/main.c) $(call libs,sim)
	$(link)

# Unit tests: tests/unit/LAYER/test_NAME.c links LAYER and what is below it.
unit_dirs = base env wire client raft storage server check sim tools
unit_src  = $(foreach d,$(unit_dirs),$(wildcard tests/unit/$(d)/test_*.c))
unit_bin  = $(patsubst tests/unit/%.c,$(BUILD)/unit/%,$(unit_src))
define unit_rule
$$(BUILD)/unit/$(1)/%: $$(BUILD)/obj/tests/unit/$(1)/%.o $$(call libs,$(1))
	@mkdir -p $$(@D)
	$$(link) -lcheck -lsubunit -lrt -lm
endef
$(foreach d,$(unit_dirs),$(eval $(call unit_rule,$(d))))

-include $(shell find $(BUILD)/obj -name '*.d' 2>/dev/null)

include tests/targets.mk
include jepsen/targets.mk
