# The two commands of this house, and those that take longer or are seldom wanted. What they do is in gateway/xtask.

.PHONY: run test test-all test-languages policies fuzz bench compiler

run: compiler
	@cargo xtask run

test: compiler
	@cargo xtask test

test-all: compiler
	@cargo xtask test --all

# Policies in JavaScript and Python: needs npm and python3. A part of test-all.
test-languages: compiler
	@cargo xtask languages --test

policies: compiler
	@cargo xtask policies

# The readers of hostile bytes, a minute each: make fuzz SECONDS=3600 TARGET=manifest.
fuzz: compiler
	@cargo xtask fuzz $(if $(TARGET),--target $(TARGET)) $(if $(SECONDS),--seconds $(SECONDS))

bench: compiler
	@cargo xtask bench

# Without a compiler nothing can be built, not even what installs the rest.
compiler:
	@command -v cargo >/dev/null || { echo 'missing: cargo; install Rust from https://rustup.rs' >&2; exit 1; }
	@command -v cc >/dev/null || .ci/compiler
