# Stands in for the official image where no registry is in reach: the same variables, folder, port and program.
ARG BASE
FROM ${BASE}
RUN apt-get update \
    && apt-get install --yes --no-install-recommends postgresql \
    && rm -rf /var/lib/apt/lists/* \
    && install --directory --owner=postgres --group=postgres --mode=0700 /var/lib/postgresql/data /run/postgresql
COPY postgres.sh /usr/local/bin/postgres.sh
USER postgres
ENTRYPOINT ["sh", "/usr/local/bin/postgres.sh"]
