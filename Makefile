# The two commands of this house, and the two that take longer. What they do is in gateway/xtask.

.PHONY: run test test-all bench compiler

run: compiler
	@cargo xtask run

test: compiler
	@cargo xtask test

test-all: compiler
	@cargo xtask test --all

bench: compiler
	@cargo xtask bench

# Without a compiler nothing can be built, not even what installs the rest.
compiler:
	@command -v cargo >/dev/null || { echo 'missing: cargo; install Rust from https://rustup.rs' >&2; exit 1; }
	@command -v cc >/dev/null || .ci/compiler
