# The two commands of the README, and what they stand for.

.PHONY: demo test install

# A server on a generated website, busy for as long as it runs. The plain command works as well.
demo:
	cargo run --release --locked -- demo

# Everything that must hold. Installs what is missing first.
test: install
	.ci/test

install:
	.ci/install
