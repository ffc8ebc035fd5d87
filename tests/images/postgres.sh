# What the official image's entry point does of it: make the database where there is none, then serve.
set -eu
data=/var/lib/postgresql/data
programs=$(echo /usr/lib/postgresql/*/bin)
if [ ! -s "$data/PG_VERSION" ]; then
    umask 077
    printf '%s\n' "$POSTGRES_PASSWORD" >/tmp/password
    "$programs/initdb" --pgdata="$data" --username="$POSTGRES_USER" --pwfile=/tmp/password --auth-local=trust --auth-host=scram-sha-256
    rm /tmp/password
    echo "host all all all scram-sha-256" >>"$data/pg_hba.conf"
    "$programs/pg_ctl" --pgdata="$data" --wait --options="-c listen_addresses=''" start
    "$programs/createdb" --username="$POSTGRES_USER" "$POSTGRES_DB"
    "$programs/pg_ctl" --pgdata="$data" --wait stop
fi
exec "$programs/postgres" -D "$data" -c "listen_addresses=*"
