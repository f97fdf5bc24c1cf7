# The images of the operator and of the agent:
#
#   docker build --target operator -t miyako-operator .
#   docker build --target agent    -t miyako-agent .
#
# Each holds one program and the few files it reads; `e2e/tools/scratch-image` assembles and runs the same images
# without a container engine, from the last two stages as they are written here.

ARG RUST_VERSION=1.95

FROM rust:${RUST_VERSION}-bookworm AS build
# The operator's schedules are in people's time zones.
RUN apt-get update \
 && apt-get install --yes --no-install-recommends tzdata \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
# glibc linked statically: it needs nothing of a distribution, and allocates faster than musl. With --target the flag
# stays away from build scripts and procedural macros, which can't be static.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    host="$(rustc -vV | sed -n 's/^host: //p')" \
 && RUSTFLAGS='-C target-feature=+crt-static' \
    cargo build --release --locked --target "$host" --package miyako --package miyako-agent \
 && install -D --strip --target-directory /out "target/$host/release/miyako" "target/$host/release/miyako-agent"

FROM scratch AS operator
COPY --from=build /usr/share/zoneinfo /usr/share/zoneinfo
COPY --from=build /out/miyako /usr/local/bin/miyako
ENV PATH=/usr/local/bin
USER 65532:65532
ENTRYPOINT ["miyako"]
CMD ["operator"]

FROM scratch AS agent
COPY --from=build /out/miyako-agent /usr/local/bin/miyako-agent
ENV PATH=/usr/local/bin
USER 65532:65532
ENTRYPOINT ["miyako-agent"]
CMD ["run"]
