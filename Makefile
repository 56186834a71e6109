# The two commands of the README, and what they stand for.

.PHONY: demo test install docs schemathesis hostile flips damage deny

# A server on a generated website, busy for as long as it runs. Where there is a C compiler, the plain command works as well.
demo:
	.ci/install compiler
	cargo run --release --locked -- demo

# Everything that must hold. Installs what is missing first.
test: install
	.ci/test

install:
	.ci/install

# Writes docs/api.md again, from the descriptions of the routes.
docs:
	TASKBELL_WRITE_DOCS=1 cargo test --locked --test taskbell openapi::markdown

# 20,000 requests made from /openapi.json; about half an hour.
schemathesis:
	cargo build --locked
	tests/schemathesis/run.sh full

# Hostile clients at full size, over TLS with authentication: fuzzers, slow clients, sockets that never read, 256 MiB of memory.
# About half an hour. ACCESS=open: without both; ACCESS=both. PROFILE=dev: not optimised. PART=10: a tenth.
ACCESS ?= secured
hostile:
	tests/hostile/run.sh $(ACCESS)

# Flips single bits in a log, each in a copy: nothing changed may be served. FLIPS=1000: fewer. About an hour.
FLIPS ?= 100000
flips:
	TASKBELL_FLIPS=$(FLIPS) cargo test --locked --test taskbell store_contract::flips -- --ignored --nocapture

# Every byte of a write-ahead log flipped, and 500 kills, each right after an acknowledgement. About an hour.
damage:
	cargo test --locked --test taskbell store_contract::complete -- --ignored --nocapture --skip append_until_killed

# The rules for dependencies, with cargo-deny (cargo install cargo-deny). Advisories only where their database is at hand.
deny:
	cargo deny --offline check licenses bans sources
	if [ -d "$${CARGO_HOME:-$$HOME/.cargo}/advisory-dbs" ]; then cargo deny --offline check advisories; fi
