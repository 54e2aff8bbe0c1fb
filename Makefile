# `make` alone lists the targets.
.PHONY: help run up test model fuzz chaos lint manifests package bench bench-quick

help: ## Lists the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## Serves the API with the embedded default on port 7071: nothing but Rust is needed
	cargo run

up: ## Serves the API with Redis, Azurite and `func start`; Ctrl-C ends all of them
	@scripts/up.sh

test: ## Installs Redis, Azurite, Chromium and schemathesis where they are missing, and runs all tests
	scripts/install-servers.sh browser
	scripts/install-schemathesis.sh
	cargo test --workspace --all-features

model: ## Explores the protocol's model, and schedules of its code, further than `make test`, and prints what it finds
	cargo test --package cache-aside --test model -- --include-ignored --nocapture
	cargo test --package cache-aside --lib scheduled -- --include-ignored --nocapture

fuzz: ## Fuzzes the decoders, a minute each; SECONDS=300 takes longer, ONLY=redis only those with that in their name
	scripts/fuzz.sh $(or $(SECONDS),60) $(ONLY)

chaos: ## Breaks handlers, Redis and the table for ten minutes, and checks what clients saw; SECONDS=60, SEED=1, ONLY=crashes, PROGRAM=axum
	scripts/chaos.sh $(if $(SECONDS),--seconds $(SECONDS)) $(if $(SEED),--seed $(SEED)) $(if $(ONLY),--only $(ONLY)) $(if $(PROGRAM),--program $(PROGRAM))

lint: ## Checks format, code, documentation, dependencies and the OpenAPI document
	cargo fmt --check
	cargo clippy --workspace --all-targets --all-features -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --all-features --no-deps --document-private-items
	scripts/check-dependencies.sh
	scripts/check-openapi.sh

bench: ## Measures speed, guarantees and footprint beside peers, in a quarter of an hour; ONLY=hits measures only those
	scripts/bench.sh $(ONLY)

bench-quick: ## Measures hits in less than a minute; with ONLY=race, a little of another measurement
	scripts/bench.sh --quick $(ONLY)

manifests: ## Checks the deployment files: overlays, Dockerfile, compose.yaml, workflows, Bicep
	scripts/check-manifests.sh

package: ## Puts the function app into target/package, with a static binary built by Docker
	docker build --platform linux/amd64 --build-arg HANDLER_COMMIT=$$(git rev-parse --short=12 HEAD) --target binary --output target/binary .
	rm -rf target/package
	scripts/layout.sh target/package target/binary/handler
