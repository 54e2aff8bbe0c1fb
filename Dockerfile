# syntax=docker/dockerfile:1

# This image builds for musl by default. A static binary starts on every host image, whatever its glibc.
FROM rust:1.95-alpine AS build
# The allocator's build needs it.
RUN apk add --no-cache make=~4.4
# Without threads of its own, which do not work with musl, the allocator returns memory to the operating
# system only while memory is used. With one arena, it does not matter which thread uses it.
ENV JEMALLOC_SYS_WITH_MALLOC_CONF=narenas:1,dirty_decay_ms:1000,muzzy_decay_ms:0
WORKDIR /build
COPY Cargo.toml Cargo.lock build.rs ./
COPY bench/Cargo.toml bench/
COPY bench/peers/axum/Cargo.toml bench/peers/axum/
COPY chaos/Cargo.toml chaos/
COPY crates/cache-aside/Cargo.toml crates/cache-aside/
COPY crates/custom-handler/Cargo.toml crates/custom-handler/
COPY crates/fuzzing/Cargo.toml crates/fuzzing/
COPY crates/test-programs/Cargo.toml crates/test-programs/
COPY crates/test-servers/Cargo.toml crates/test-servers/
# The dependencies alone, in a layer that stays valid when only the code changes.
RUN for package in . bench bench/peers/axum chaos crates/*; do mkdir "$package/src" && touch "$package/src/lib.rs" || exit 1; done && \
    echo 'fn main() {}' > src/main.rs && cargo build --release --locked
COPY crates crates
COPY src src
# What `handler --version` prints.
ARG HANDLER_COMMIT
RUN find . -path ./target -prune -o -name '*.rs' -exec touch {} + && cargo build --release --locked

# The binary alone: docker build --target binary --output target/binary .
FROM scratch AS binary
COPY --from=build /build/target/release/handler /handler

# The host that Flex Consumption runs. The image `dotnet:4` is the in-process host, which is out of support.
FROM mcr.microsoft.com/azure-functions/dotnet-isolated:4-dotnet-isolated10.0
# AzureWebJobsSecretStorageType says where the host keeps its keys; it is not a key itself.
# hadolint ignore=DL3064
ENV AzureWebJobsScriptRoot=/home/site/wwwroot \
    AzureFunctionsJobHost__Logging__Console__IsEnabled=true \
    AzureWebJobsSecretStorageType=files \
    FUNCTIONS_WORKER_RUNTIME=custom \
    ASPNETCORE_URLS=http://+:8080
COPY --from=binary /handler /home/site/wwwroot/
COPY host.json /home/site/wwwroot/
COPY users-create /home/site/wwwroot/users-create/
COPY users-get /home/site/wwwroot/users-get/
COPY users-put /home/site/wwwroot/users-put/
COPY users-update /home/site/wwwroot/users-update/
COPY users-delete /home/site/wwwroot/users-delete/
COPY health /home/site/wwwroot/health/
COPY live /home/site/wwwroot/live/
COPY demo /home/site/wwwroot/demo/
COPY openapi /home/site/wwwroot/openapi/
# The host keeps its keys in files here, and writes everything else to /tmp.
RUN mkdir -p /azure-functions-host/Secrets && chown 10001:10001 /azure-functions-host/Secrets
USER 10001:10001
EXPOSE 8080
# The host answers 500 to HTTP/1.0 without Host.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s \
    CMD ["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/8080 && printf 'GET /api/live HTTP/1.1\\r\\nHost: localhost\\r\\nConnection: close\\r\\n\\r\\n' >&3 && head -n 1 <&3 | grep -q ' 200 '"]
