# Stands in for the official image of moto where no registry is in reach: the same program at the same port.
ARG BASE
FROM ${BASE}
RUN apt-get update && apt-get install --yes --no-install-recommends ca-certificates python3-venv && python3 -m venv /opt/moto
COPY constraints.txt /
RUN /opt/moto/bin/pip install --no-cache-dir --constraint /constraints.txt 'moto[server]'
USER 65534:65534
ENTRYPOINT ["/opt/moto/bin/moto_server", "-H", "0.0.0.0"]
