# The two headers need no building. This builds the programs around them:
#   make          tools/*.c into bin/, examples/*.c and *.cpp into bin/examples/
#   make demo     reads the sample tallies in examples/data/ and writes a report; needs no download
#   make learn    fetches MNIST, trains the network `base` on it and evaluates it
#   make model    makes the model in examples/models/ again; make paper replays the paper's experiment
#   make test     runs every tests/test_*.c and tests/*.sh, ends in "N passed, N failed, N skipped"
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
try = $(shell printf '$(1)\n' | $(2) -x c - -o /dev/null 2>/dev/null && echo yes)
STB := $(shell pkg-config --cflags stb 2>/dev/null)
HAVE_STB := $(call try,#include <stb/stb_image.h>,$(CC) $(STB) -c)
HAVE_CMOCKA := $(call try,#include <cmocka.h>,$(CC) -c -include stdarg.h -include stddef.h \
  -include stdint.h -include setjmp.h)

COMPILE = $(CC) $(CFLAGS) $(WARNINGS) -Wstrict-prototypes -pthread $(STB) -I. -Itools -MMD -MP
COMPILE_CXX = $(CXX) -std=c++11 $(CXXFLAGS) $(WARNINGS) -pthread -I. -MMD -MP

TOOLS = $(patsubst tools/%.c,bin/%,$(wildcard tools/*.c))
EXAMPLES = $(patsubst examples/%.c,bin/examples/%,$(wildcard examples/*.c)) \
  $(patsubst examples/%.cpp,bin/examples/%,$(wildcard examples/*.cpp))
TESTS = $(patsubst tests/%.c,build/tests/%,$(wildcard tests/test_*.c))
BENCHES = $(patsubst bench/%.c,bin/bench/%,$(wildcard bench/*.c))
SCRIPTS = $(filter-out tests/run.sh,$(wildcard tests/*.sh))

all: found $(TOOLS) $(EXAMPLES)

found:
	@echo "compiler: $(CC); stb: $(if $(HAVE_STB),yes,no);" \
	  "cmocka: $(if $(HAVE_CMOCKA),yes,no)"

bin/%: tools/%.c Makefile | found stb
	@mkdir -p bin build
	$(COMPILE) -MF build/$*.d $< -o $@ $(LDFLAGS) -lm

bin/examples/%: examples/%.c Makefile | found
	@mkdir -p bin/examples build/examples
	$(COMPILE) -MF build/examples/$*.d $< -o $@ $(LDFLAGS) -lm

bin/examples/%: examples/%.cpp Makefile | found
	@mkdir -p bin/examples build/examples
	$(COMPILE_CXX) -MF build/examples/$*.d $< -o $@ $(LDFLAGS) -lm

bin/bench/%: bench/%.c Makefile | found
	@mkdir -p bin/bench build/bench
	$(COMPILE) -MF build/bench/$*.d $< -o $@ $(LDFLAGS) -lm

build/tests/%: tests/%.c Makefile | found cmocka
	@mkdir -p build/tests
	$(COMPILE) -MF build/tests/$*.d $< -o $@ $(LDFLAGS) -lcmocka -lm

# Others run these by hand; make test compiles them, so that they do not fall behind.
BY_HAND = $(BENCHES) build/networks-compare build/peers/ours

build/networks-compare: tests/networks/compare.c Makefile | found
	@mkdir -p build
	$(COMPILE) -MF $@.d $< -o $@ $(LDFLAGS) -lm

# -O2, as most who include the header compile it
build/peers/ours: bench/peers/ours.c Makefile | found
	@mkdir -p build/peers
	$(COMPILE) -O2 -MF $@.d $< -o $@ $(LDFLAGS) -lm

# The commands must not stop at a machine without a library before saying what to do about it.
stb:
	@$(if $(HAVE_STB),true,echo "The tools need stb (Debian: libstb-dev); try make deps." >&2; false)
cmocka:
	@$(if $(HAVE_CMOCKA),true,echo "The tests need cmocka (Debian: libcmocka-dev); try make deps." \
	  >&2; false)

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

test: deps
	@$(MAKE) --no-print-directory -j2 run-tests

run-tests: $(TESTS) $(TOOLS) $(EXAMPLES) $(BY_HAND)
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

-include $(wildcard build/*.d build/*/*.d)
.PHONY: all found stb cmocka demo learn model paper test run-tests test-networks bench bench-peers data deps install clean
