# The two headers need no building. This builds the programs around them:
#   make          tools/*.c into bin/
#   make examples examples/*.c and *.cpp into bin/examples/, each with an implementation of its own
#   make demo     reads the sample tallies in examples/data/ and writes a report; needs no download
#   make learn    fetches MNIST, trains the network `base` on it and evaluates it
#   make model    makes the model in examples/models/ again; make paper replays the paper's experiment
#   make test     fetches MNIST, runs every tests/test_*.c and tests/*.sh, says what they check and how
#                 long they take, ends in "N passed, N failed, N skipped"
#   make fuzz     tries the readers of files with inputs that libFuzzer makes up (clang), each for
#                 SECONDS=60; FUZZ=network_parse tries that one alone
#   make test-networks  holds every network of the literature against PyTorch; takes half an hour
#   make bench    runs every bench/*.c; make bench-peers times other systems beside them
#   make data     puts MNIST's four IDX files into data/
#   make deps     installs Debian packages as root or with sudo, else says what is missing
#   make install  PREFIX=/usr/local DESTDIR=
#   make clean
CC ?= cc
CXX ?= c++
CFLAGS ?= -O3
CXXFLAGS ?= $(CFLAGS)
PREFIX ?= /usr/local
WARNINGS = -Wall -Wextra -Wpedantic -Wshadow -Wconversion

# What this machine has. Tools that read pictures need stb.
VERSION := $(shell $(CC) --version 2>/dev/null | head -n 1)
try = $(shell printf '$(1)\n' | $(2) -x c - -o /dev/null 2>/dev/null && echo yes)
STB := $(shell pkg-config --cflags stb 2>/dev/null)
HAVE_STB := $(call try,#include <stb/stb_image.h>,$(CC) $(STB) -c)
HAVE_CMOCKA := $(call try,#include <cmocka.h>,$(CC) -c -include stdarg.h -include stddef.h \
  -include stdint.h -include setjmp.h)

# Libraries that read further kinds of pictures, each found by a compilation; without one, its kind is
# refused by name. PDF files are read by programs of poppler, which are looked for when they run.
tiff_code = \#include <tiffio.h>
webp_code = \#include <webp/demux.h>
heif_code = \#include <libheif/heif.h>
jpeg_code = \#include <stdio.h>\n\#include <jpeglib.h>
HAVE_LIBTIFF := $(call try,$(tiff_code),$(CC) -c)
HAVE_LIBWEBP := $(call try,$(webp_code),$(CC) -c)
HAVE_LIBHEIF := $(call try,$(heif_code),$(CC) -c)
HAVE_LIBJPEG := $(call try,$(jpeg_code),$(CC) -c) # for tests of what other encoders write
DECODERS = $(if $(HAVE_LIBTIFF),-DHAVE_LIBTIFF) $(if $(HAVE_LIBWEBP),-DHAVE_LIBWEBP) \
  $(if $(HAVE_LIBHEIF),-DHAVE_LIBHEIF) $(if $(HAVE_LIBJPEG),-DHAVE_LIBJPEG)
DECODER_LIBS = $(if $(HAVE_LIBTIFF),-ltiff) $(if $(HAVE_LIBWEBP),-lwebpdemux -lwebp) \
  $(if $(HAVE_LIBHEIF),-lheif)

COMPILE = $(CC) $(CFLAGS) $(WARNINGS) -Wstrict-prototypes -pthread $(STB) -I. -Itools -Ibuild -MMD -MP
COMPILE_CXX = $(CXX) -std=c++11 $(CXXFLAGS) $(WARNINGS) -pthread -I. -MMD -MP
LINK = $(CC) $(CFLAGS) -pthread $(LDFLAGS)
LINK_CXX = $(CXX) $(CXXFLAGS) -pthread $(LDFLAGS)

# Without the kernels for AVX-512, which take as long to compile as all the rest.
SANITIZE = address,undefined,float-cast-overflow
FUZZ_COMPILE = clang -O1 -gline-tables-only -fsanitize=fuzzer-no-link,$(SANITIZE) \
  -fno-sanitize-recover=all $(WARNINGS) -DCONVNET_NO_AVX512 -pthread $(STB) -I. -Itools \
  -include tests/fuzz/fuzz.h -MMD -MP

TOOLS = $(patsubst tools/%.c,bin/%,$(wildcard tools/*.c))
EXAMPLES_C = $(patsubst examples/%.c,bin/examples/%,$(wildcard examples/*.c))
EXAMPLES_CXX = $(patsubst examples/%.cpp,bin/examples/%,$(wildcard examples/*.cpp))
TESTS = $(patsubst tests/%.c,build/tests/%,$(wildcard tests/test_*.c))
FUZZERS = $(patsubst tests/fuzz/%.c,build/fuzz/%,$(filter-out %/fuzz.c,$(wildcard tests/fuzz/*.c)))
BENCHES = $(patsubst bench/%.c,bin/bench/%,$(wildcard bench/*.c))
SCRIPTS = $(filter-out tests/run.sh,$(wildcard tests/*.sh))

# convnet.h, tally.h and stb, each compiled once. Of an archive the linker takes what a program does
# not define itself, so programs may as well include an implementation.
IMPLEMENTATIONS = build/implementations.a

all: found $(TOOLS)

examples: found $(EXAMPLES_C) $(EXAMPLES_CXX)

# A recipe that is empty when all is well runs nothing, so that make -q tells the truth.
found:
	$(info compiler: $(CC), $(VERSION); stb: $(if $(HAVE_STB),yes,no); \
	  cmocka: $(if $(HAVE_CMOCKA),yes,no); pictures beside stb's: $(or \
	  $(strip $(if $(HAVE_LIBTIFF),TIFF) $(if $(HAVE_LIBWEBP),WebP) $(if $(HAVE_LIBHEIF),HEIC)),none))

# Another compiler or other flags make everything anew: build/flags holds those of what is there, and
# is out of date when they differ.
FLAGS := $(VERSION) $(COMPILE) $(COMPILE_CXX) $(LINK) $(LINK_CXX) $(DECODERS) $(FUZZ_COMPILE)
PRINT_FLAGS := printf '%s\n' '$(subst ','\'',$(FLAGS))'

build/flags: $(shell $(PRINT_FLAGS) | cmp -s - build/flags || echo other-flags)
	@mkdir -p build
	@$(PRINT_FLAGS) >$@

build/%.o: %.c build/flags | found
	@mkdir -p $(@D)
	$(COMPILE) -c $< -o $@

build/%.o: %.cpp build/flags | found
	@mkdir -p $(@D)
	$(COMPILE_CXX) -c $< -o $@

$(IMPLEMENTATIONS): $(patsubst %.c,build/%.o,$(wildcard tools/implementations/*.c tools/decode/*.c))
	@rm -f $@
	$(AR) rcs $@ $^

# The styles and the scripts of pages, as C. A first compilation has no list of headers yet.
build/page_files.h: tools/read/page.css tools/read/page.js
build/key_files.h: tools/audit/key.css tools/audit/key.js
build/page_files.h build/key_files.h: tools/embed.sh
	@mkdir -p $(@D)
	tools/embed.sh $(filter-out tools/embed.sh,$^) >$@

build/tools/tally-read.o build/tests/test_read.o: build/page_files.h
build/tools/tally-audit.o build/tests/test_audit.o: build/key_files.h

$(patsubst %.c,build/%.o,$(wildcard tools/decode/*.c)) build/tests/test_decoders.o: COMPILE += $(DECODERS)
build/tests/test_decoders: DECODER_LIBS += $(if $(HAVE_LIBJPEG),-ljpeg)

$(TOOLS): bin/%: build/tools/%.o $(IMPLEMENTATIONS)
	@mkdir -p $(@D)
	$(LINK) $^ -o $@ $(DECODER_LIBS) -lm

$(TESTS): build/tests/%: build/tests/%.o $(IMPLEMENTATIONS)
	$(LINK) $^ -o $@ -lcmocka $(DECODER_LIBS) -lm

$(EXAMPLES_C): bin/examples/%: build/examples/%.o
	@mkdir -p $(@D)
	$(LINK) $^ -o $@ -lm

$(EXAMPLES_CXX): bin/examples/%: build/examples/%.o
	@mkdir -p $(@D)
	$(LINK_CXX) $^ -o $@ -lm

$(BENCHES): bin/bench/%: build/bench/%.o
	@mkdir -p $(@D)
	$(LINK) $^ -o $@ -lm

# The targets of tests/fuzz, with what they try out compiled the same way.
FUZZED = $(patsubst tools/%.c,build/fuzz/tools/%.o,$(wildcard tools/implementations/*.c tools/decode/*.c))

build/fuzz/%.o: tests/fuzz/%.c build/flags
	@mkdir -p $(@D)
	$(FUZZ_COMPILE) -c $< -o $@

build/fuzz/tools/%.o: tools/%.c build/flags
	@mkdir -p $(@D)
	$(FUZZ_COMPILE) $(DECODERS) -c $< -o $@

$(FUZZERS): build/fuzz/%: build/fuzz/%.o build/fuzz/fuzz.o $(FUZZED)
	clang -fsanitize=fuzzer,$(SANITIZE) -pthread $^ -o $@ $(DECODER_LIBS) -lm

fuzzers: $(FUZZERS)

SECONDS ?= 60
fuzz:
	@tests/fuzz.sh $(SECONDS) $(FUZZ)

# Others run these by hand; make test compiles them, so that they do not fall behind.
BY_HAND = $(BENCHES) build/networks-compare build/peers/ours

build/networks-compare: build/tests/networks/compare.o
	$(LINK) $^ -o $@ -lm

# -O2, as most who include the header compile it
build/bench/peers/ours.o: override CFLAGS += -O2
build/peers/ours: build/bench/peers/ours.o
	@mkdir -p $(@D)
	$(LINK) $^ -o $@ -lm

# What needs a library says so before a compiler does.
$(patsubst bin/%,build/tools/%.o,$(TOOLS)) build/tools/implementations/stb.o \
  $(patsubst %.c,build/%.o,$(wildcard tools/decode/*.c)): | stb
$(addsuffix .o,$(TESTS)): | stb cmocka

stb:
	$(if $(HAVE_STB),,@echo "The tools need stb (Debian: libstb-dev); try make deps." >&2; false)
cmocka:
	$(if $(HAVE_CMOCKA),,@echo "The tests need cmocka (Debian: libcmocka-dev); try make deps." >&2; false)

# deps may install what was looked for above, so the work itself is a second make.
TOOL_PACKAGES = gcc libc6-dev libstb-dev pkg-config

demo:
	@PACKAGES="$(TOOL_PACKAGES)" .ci/deps
	@$(MAKE) --no-print-directory bin/tally-read
	@for form in c1-2019 mexico-2015; do \
	  echo; echo "Reading the sample tallies of the form $$form:"; mkdir -p build/demo; \
	  bin/tally-read --template $$form --out build/demo/$$form examples/data/$$form || exit 1; done
	@echo; echo "Done. Look at the reports in a browser:"; \
	echo "  build/demo/c1-2019/report.html"; echo "  build/demo/mexico-2015/report.html"

learn:
	@PACKAGES="$(TOOL_PACKAGES)" .ci/deps
	@$(MAKE) --no-print-directory data bin/tally-train bin/tally-evaluate
	@mkdir -p build/learn
	@echo; echo "Training the network 'base' on 54,000 handwritten digits, three passes:"
	bin/tally-train --data data:train --val 0.1 --arch base --epochs 3 --out build/learn/base.safetensors
	@echo; echo "Reading 10,000 digits it has never seen:"
	bin/tally-evaluate --model build/learn/base.safetensors --data data:test --out build/learn
	@echo; echo "Done. The network is build/learn/base.safetensors; beside it lie the confusion matrix,"; \
	echo "every prediction, and a picture of the worst mistakes. Train for 15 epochs to see it get better:"; \
	echo "  bin/tally-train --data data:train --arch base --epochs 15 --out base.safetensors"

model paper:
	@PACKAGES="$(TOOL_PACKAGES)" .ci/deps
	@$(MAKE) --no-print-directory data all
	@$(if $(filter model,$@),examples/models/make-model.sh,examples/paper.sh)

# Whoever has no network goes on without MNIST: what needs it is skipped and says so.
test: deps
	@.ci/data || true
	@echo "Compiling the tools and the tests: one to two minutes of one core, later only what changed"
	@$(MAKE) --no-print-directory $(if $(filter -j%,$(MAKEFLAGS)),,-j2) run-tests

run-tests: $(TESTS) $(TOOLS) $(BY_HAND)
	@CC="$(CC)" CXX="$(CXX)" tests/run.sh $(TESTS) $(SCRIPTS)

test-networks: build/networks-compare
	@tests/networks/run.sh $<

bench: $(BENCHES)
	@for bench in $(BENCHES); do echo "== $$bench"; $$bench || exit 1; done

bench-peers: $(BENCHES)
	@bench/peers/run.sh

data:
	@.ci/data

deps:
	@.ci/deps

SHARE = $(DESTDIR)$(PREFIX)/share/tally
install: $(TOOLS)
	install -d $(DESTDIR)$(PREFIX)/include $(DESTDIR)$(PREFIX)/bin $(SHARE)/models $(SHARE)/templates
	install -m 644 examples/models/tally.safetensors $(SHARE)/models
	install -m 644 examples/templates/*.form examples/templates/*.print examples/templates/*.print.png \
	  $(SHARE)/templates
	install -m 644 convnet.h tally.h $(DESTDIR)$(PREFIX)/include
	install -m 755 $(TOOLS) $(DESTDIR)$(PREFIX)/bin

clean:
	rm -rf bin build

-include $(wildcard build/*/*.d build/*/*/*.d build/*/*/*/*.d)
.DELETE_ON_ERROR:
.PHONY: all examples found other-flags stb cmocka demo learn model paper test run-tests fuzzers fuzz test-networks bench bench-peers data deps install clean
