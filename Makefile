# The two commands of the README, and what they stand for.

.PHONY: demo test install

# A server on a generated website, busy for as long as it runs. Where there is a C compiler, the plain command works as well.
demo:
	.ci/install compiler
	cargo run --release --locked -- demo

# Everything that must hold. Installs what is missing first.
test: install
	.ci/test

install:
	.ci/install
