# The two headers need no building. This builds the programs around them:
#   make          tools/*.c into bin/
#   make examples examples/*.c and *.cpp into bin/examples/, each with an implementation of its own
#   make demo     reads the sample tallies in examples/data/ and writes a report; needs no download
#   make learn    fetches MNIST, trains the network `base` on it and evaluates it
#   make model    makes the model in examples/models/ again; make paper replays the paper's experiment
#   make test     fetches MNIST, runs every tests/test_*.c and tests/*.sh, says what they check and how
#                 long they take, ends in "N passed, N failed, N skipped"
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

# Libraries that decode what stb does not, each with what it is for. One counts as there when a program
# with it links by this compiler. PDF needs no library but the program pdftoppm, when it is run.
library = $(shell flags=$$(pkg-config --cflags --libs $(1) 2>/dev/null) && \
  printf '#include <$(2)>\nint main(void) { return 0; }\n' | \
  $(CC) $(CFLAGS) $(LDFLAGS) -x c - -o /dev/null $$flags 2>/dev/null && echo $(1))
LIBTIFF := $(call library,libtiff-4,tiffio.h)
LIBWEBP := $(call library,libwebpdemux libwebp,webp/demux.h)
LIBHEIF := $(call library,libheif,libheif/heif.h)
LIBJPEG := $(call library,libjpeg,stdio.h) # for tests of what other encoders write
DECODERS := $(LIBTIFF) $(LIBWEBP) $(LIBHEIF)
DECODERS_FLAGS := $(if $(LIBTIFF),-DHAVE_LIBTIFF) $(if $(LIBWEBP),-DHAVE_LIBWEBP) \
  $(if $(LIBHEIF),-DHAVE_LIBHEIF) $(if $(LIBJPEG),-DHAVE_LIBJPEG) \
  $(if $(DECODERS),$(shell pkg-config --cflags $(DECODERS)))
DECODERS_LIBS := $(if $(DECODERS),$(shell pkg-config --libs $(DECODERS)))
PDFTOPPM := $(shell command -v pdftoppm)

COMPILE = $(CC) $(CFLAGS) $(WARNINGS) -Wstrict-prototypes -pthread $(STB) $(DECODERS_FLAGS) -I. -Itools \
  -MMD -MP
COMPILE_CXX = $(CXX) -std=c++11 $(CXXFLAGS) $(WARNINGS) -pthread -I. -MMD -MP
LINK = $(CC) $(CFLAGS) -pthread $(LDFLAGS)
LINK_CXX = $(CXX) $(CXXFLAGS) -pthread $(LDFLAGS)

TOOLS = $(patsubst tools/%.c,bin/%,$(wildcard tools/*.c))
EXAMPLES_C = $(patsubst examples/%.c,bin/examples/%,$(wildcard examples/*.c))
EXAMPLES_CXX = $(patsubst examples/%.cpp,bin/examples/%,$(wildcard examples/*.cpp))
TESTS = $(patsubst tests/%.c,build/tests/%,$(wildcard tests/test_*.c))
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
	  cmocka: $(if $(HAVE_CMOCKA),yes,no); TIFF: $(if $(LIBTIFF),yes,no (libtiff-dev)); \
	  WebP: $(if $(LIBWEBP),yes,no (libwebp-dev)); HEIC and AVIF: $(if $(LIBHEIF),yes,no (libheif-dev)); \
	  PDF: $(if $(PDFTOPPM),yes,no (poppler-utils)))

# Another compiler or other flags make everything anew: build/flags holds those of what is there, and
# is out of date when they differ.
FLAGS := $(VERSION) $(COMPILE) $(COMPILE_CXX) $(LINK) $(LINK_CXX)
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

$(IMPLEMENTATIONS): $(patsubst %.c,build/%.o,$(wildcard tools/implementations/*.c))
	@rm -f $@
	$(AR) rcs $@ $^

$(TOOLS): bin/%: build/tools/%.o $(IMPLEMENTATIONS)
	@mkdir -p $(@D)
	$(LINK) $^ -o $@ $(DECODERS_LIBS) -lm

$(TESTS): build/tests/%: build/tests/%.o $(IMPLEMENTATIONS)
	$(LINK) $^ -o $@ -lcmocka $(DECODERS_LIBS) $(if $(LIBJPEG),-ljpeg) -lm

$(EXAMPLES_C): bin/examples/%: build/examples/%.o
	@mkdir -p $(@D)
	$(LINK) $^ -o $@ -lm

$(EXAMPLES_CXX): bin/examples/%: build/examples/%.o
	@mkdir -p $(@D)
	$(LINK_CXX) $^ -o $@ -lm

$(BENCHES): bin/bench/%: build/bench/%.o
	@mkdir -p $(@D)
	$(LINK) $^ -o $@ -lm

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
$(patsubst bin/%,build/tools/%.o,$(TOOLS)) build/tools/implementations/stb.o: | stb
$(patsubst %.c,build/%.o,$(wildcard tools/implementations/decode*.c)): | stb
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
	install -m 644 examples/templates/*.form $(SHARE)/templates
	install -m 644 convnet.h tally.h $(DESTDIR)$(PREFIX)/include
	install -m 755 $(TOOLS) $(DESTDIR)$(PREFIX)/bin

clean:
	rm -rf bin build

-include $(wildcard build/*/*.d build/*/*/*.d)
.DELETE_ON_ERROR:
.PHONY: all examples found other-flags stb cmocka demo learn model paper test run-tests test-networks bench bench-peers data deps install clean
