# Penstock in an image with nothing else in it: docker build -t penstock .
#
# Publishing from outside of the container takes a token (or --insecure-publish):
#   docker run -p 8080:8080 -v "$PWD/tokens:/tokens:ro" penstock --publish-token-file /tokens
# The page, the topics and the metrics are on 127.0.0.1:8081 inside of the container; add
# --admin-listen :8081 and publish that port where only you can reach it.
FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=
RUN CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags "-s -w ${VERSION:+-X penstock/server.version=$VERSION}" -o /penstock ./cmd/penstock

FROM scratch
COPY --from=build /penstock /penstock
# Nobody: no shell, no home, no name, and no port below 1024.
USER 65532:65532
ENV PENSTOCK_LISTEN=:8080
EXPOSE 8080 8081
# Asks /healthz by PENSTOCK_LISTEN, so keep the address there and not in a flag.
HEALTHCHECK --interval=10s --timeout=5s --start-period=2s CMD ["/penstock", "health"]
# Streams are ended over --drain-time (5s), and docker stop waits ten.
STOPSIGNAL SIGTERM
ENTRYPOINT ["/penstock", "serve"]
