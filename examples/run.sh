#!/usr/bin/env bash
# The three services on a laptop, until Ctrl-C: their databases, workers, tables and web servers.
# The PostgreSQL of the shared store has all databases, and stays: `eventferry store stop` ends it.
set -euo pipefail
cd "$(dirname "$0")"
trap 'trap "" EXIT INT TERM; kill 0; wait' EXIT INT TERM

EVENTFERRY_SHARED_URL=$(eventferry store start --port "${STORE_PORT:-31578}" --json |
    python -c 'import json, sys; print(json.load(sys.stdin)["data"]["urls"]["event-store"])')
export EVENTFERRY_SHARED_URL

serve() { # SERVICE EVENTFERRY TABLES WEB: the programs of a service, in its folder
    cd "$1"
    export EVENTFERRY_LOCAL_URL="${EVENTFERRY_SHARED_URL/event-store/$1}"
    $2 dev &
    until $2 migrate > /dev/null 2>&1; do sleep 0.2; done # `dev` creates the database
    $3
    exec $4
}

sql() {
    python -c 'import os, psycopg, sys
with psycopg.connect(os.environ["EVENTFERRY_LOCAL_URL"]) as conn:
    conn.execute(open(sys.argv[1]).read())' "$1"
}

manage="python manage.py"
serve users eventferry "sql schema.sql" "uvicorn app:app --reload --port ${USERS_PORT:-8001}" &
serve shop "$manage eventferry" "$manage migrate" "$manage runserver ${SHOP_PORT:-8002}" &
serve billing eventferry "sql schema.sql" "uvicorn app:app --reload --port ${BILLING_PORT:-8003}" &
wait
