# syntax=docker/dockerfile:1

# A static binary: this image's own target is musl, so that the binary starts on every host image,
# whatever its glibc.
FROM rust:1.95-alpine AS build
WORKDIR /build
COPY Cargo.toml Cargo.lock ./
# The dependencies alone, in a layer that a change of the code leaves as it is.
RUN mkdir src && touch src/lib.rs && echo 'fn main() {}' > src/main.rs && cargo build --release --locked
COPY src src
RUN touch src/lib.rs src/main.rs && cargo build --release --locked

# The binary alone: docker build --target binary --output target/binary .
FROM scratch AS binary
COPY --from=build /build/target/release/handler /handler

FROM mcr.microsoft.com/azure-functions/dotnet:4
# AzureWebJobsSecretStorageType says where the host keeps its keys; it is none.
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
COPY users-update /home/site/wwwroot/users-update/
COPY users-delete /home/site/wwwroot/users-delete/
COPY health /home/site/wwwroot/health/
COPY live /home/site/wwwroot/live/
# The host keeps its keys in files here; everything else it writes goes to /tmp.
RUN mkdir -p /azure-functions-host/Secrets && chown 10001:10001 /azure-functions-host/Secrets
USER 10001:10001
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s \
    CMD ["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/8080 && printf 'GET /api/live HTTP/1.0\\r\\n\\r\\n' >&3 && head -n 1 <&3 | grep -q ' 200 '"]
