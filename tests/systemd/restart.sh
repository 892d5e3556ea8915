# shellcheck shell=bash
# Scenes of tests/systemd/run: restarts, upgrades and crashes with live sessions. The service is installed and may run.
# shellcheck disable=SC2154  # `parts`, `init`, `root` and `other` are those of tests/systemd/run

# crowd_file [MORE]: two listeners in front of the crowd's server; MORE is put below.
crowd_file() {
    configure <<END
admin: { http: 127.0.0.1:9900 }
shutdown: { grace: 3s }
log: { sessions: failed }
listeners:
  web: { bind: 443, pool: web }
  games: { protocol: udp, bind: 9901, pool: games, limits: { sessions_per_source: off } }
pools:
  web: { backends: [{ address: 127.0.0.1:7101, name: one }], health: { interval: 1s } }
  games: { backends: [127.0.0.1:7102], health: { check: off } }
${1:-}
END
}

status() { inside /usr/local/bin/evenkeel status --json; }
# field EXPRESSION: of the status, as Python sees it in `s`.
field() { status | /usr/bin/python3 -c "import json, sys; s = json.load(sys.stdin); print($1)"; }
# told KEY: of what the load found.
told() { inside cat /run/crowd.json | /usr/bin/python3 -c "import json, sys; print(json.load(sys.stdin)['$1'])"; }
open_files() { inside sh -c "ls /proc/$(property MainPID)/fd | wc -l"; }
resident_kib() { status_of "$(property MainPID)" VmRSS | tr -dc 0-9; }

begin_crowd() {
    inside rm -f /run/crowd-stop /run/crowd-ready /run/crowd.json
    # shellcheck disable=SC2016  # expanded by the inner shell
    inside systemd-run --quiet --collect --unit=crowd -p LimitNOFILE=20000 sh -c \
        'exec /usr/bin/python3 "$0" load 127.0.0.1 443 9901 --until /run/crowd-stop --ready /run/crowd-ready "$@" >/run/crowd.json' \
        "$parts/tests/systemd/crowd.py" "$@"
    until_true inside test -e /run/crowd-ready || bad "the crowd is there" "$(inside journalctl -u crowd -o cat | tail -n 5)"
}

# crowd_is_well WHAT: ends the load; nothing may have been lost.
crowd_is_well() {
    inside touch /run/crowd-stop
    until_true inside test -s /run/crowd.json || bad "the crowd ends" "$(inside journalctl -u crowd -o cat | tail -n 5)"
    until_true_not_active crowd
    same "$1: nothing lost, wrong, refused, moved or unanswered" "0 0 0 0 0" \
        "$(told lost) $(told wrong) $(told refused) $(told udp_moved) $(told udp_unanswered)"
    if [[ $(told errors) != "[]" ]]; then told errors; fi
    if (($(told exchanges) > 100 && $(told udp_exchanges) > 100)); then ok "and much was said"; else
        bad "and much was said" "$(inside cat /run/crowd.json)"
    fi
    printf '          largest gap of 64 sessions: %s ms; %s exchanges, %s MB of bulk, %s short sessions\n' "$(told gap_ms)" \
        "$(told exchanges)" "$(($(told bulk_bytes) / 1000000))" "$(told short)"
}

until_true_not_active() { until_true inside sh -c "! systemctl is-active --quiet $1"; }

# Scenes that are run alone call it, too: it is started once.
start_crowd_server() {
    if ! inside systemctl is-active --quiet crowd-server; then
        inside cp "$parts/tests/systemd/crowd.py" /run/crowd.py
        inside systemd-run --quiet --collect --unit=crowd-server -p LimitNOFILE=20000 \
            /usr/bin/python3 "$parts/tests/systemd/crowd.py" serve 7101 7102
        until_true peer ask 7101 || bad "the crowd's server answers"
    fi
    crowd_file
    inside systemctl restart evenkeel
    until_true peer ask 443 || bad "the balancer answers"
}

# restarts COUNT COMMAND...: so many in a row, each while everything is under way.
restarts() {
    local count=$1 round pid
    shift
    for ((round = 0; round < count; round++)); do
        pid=$(property MainPID)
        inside "$@" >/dev/null || { bad "$* succeeds" "$(journal | tail -n 3)"; return; }
        until_true main_pid_changed_from "$pid" || { bad "$* makes a new process"; return; }
    done
    ok "$count times: $*"
}

restart_under_load() {
    local begun files memory
    echo "restarts under load (${RESTARTS:-6} of each kind)"
    start_crowd_server
    begin_crowd
    restarts 2 systemctl restart evenkeel
    begun=$(field 's["listeners"][0]["begun"]')
    files=$(open_files)
    memory=$(resident_kib)
    restarts "${RESTARTS:-6}" systemctl restart evenkeel
    restarts "${RESTARTS:-6}" /usr/local/bin/evenkeel upgrade
    restarts 2 systemctl restart evenkeel
    if (($(field 's["listeners"][0]["begun"]') > begun)); then ok "counters go on"; else
        bad "counters go on" "$begun, then $(field 's["listeners"][0]["begun"]')"
    fi
    # A short session more or less is under way at each look.
    if (($(open_files) <= files + 60)); then ok "no files are left open"; else bad "no files are left open" "$files, then $(open_files)"; fi
    if (($(resident_kib) <= memory + memory / 2 + 8192)); then ok "nor is memory"; else bad "nor is memory" "$memory KiB, then $(resident_kib)"; fi
    crowd_is_well "all of them"
    holds "the journal says what was left" "left everything for the next process" "$(journal)"
    holds "and what was taken over" "taken over" "$(journal)"
}

# place NAME: that program of the parts is the installed one from now on, at once, as a package does it.
place() { inside sh -c "install -m 0755 $parts/$1 /usr/local/bin/evenkeel-new && mv /usr/local/bin/evenkeel-new /usr/local/bin/evenkeel"; }

restart_into_another_build() {
    local round build what
    echo "restarts and upgrades into another build, and back"
    if [[ -z $other ]]; then
        echo "  left out: no other build was given (--other)"
        return
    fi
    start_crowd_server
    begin_crowd
    hold_a_session
    for round in 1 2; do
        for what in "systemctl restart evenkeel" "/usr/local/bin/evenkeel upgrade"; do
            for build in evenkeel-other evenkeel; do
                place $build
                # Words, not one.
                # shellcheck disable=SC2086
                restarts 1 $what
                same "round $round: $build runs" "$(sum_of $parts/$build)" "$(sum_of "/proc/$(property MainPID)/exe")"
            done
        done
    done
    inside touch /run/hold-end
    same "a session held from before the first to after the last carried bytes to its end" "done" "$(held_ended)"
    crowd_is_well "all of them"
    until_true all_have_ended || true
    same "begun = sum over reasons + active" "True" \
        "$(field 'all(l["begun"] == sum(l["ended"].values()) + l["active"] for l in s["listeners"])')"
    same "and none failed" 0 "$(field 's["listeners"][0]["ended"].get("handover_failed", 0)')"
    place evenkeel
    inside systemctl restart evenkeel
}
sum_of() { inside sha256sum "$1" | cut -d ' ' -f 1; }
all_have_ended() { [[ $(field 's["listeners"][0]["active"]') == 0 ]]; }

restart_with_a_wrong_file() {
    local said
    echo "a restart with a wrong file"
    begin_crowd --bulk 2 --idle 50
    configure <<<"listenres: {}"
    succeeds "restart succeeds" inside systemctl restart evenkeel
    if until_true property_has StatusText "the file is refused"; then ok "systemctl status says that the file is refused"; else
        bad "systemctl status says that the file is refused" "$(property StatusText)"
    fi
    said=$(journal "_SYSTEMD_INVOCATION_ID=$(property InvocationID)")
    holds "the journal has the mistake" "did you mean" "$said"
    same "so has the status" refused "$(field 's["config"]["last_reload"]["result"]')"
    succeeds "new sessions are served" peer ask 443
    crowd_file "# mended"
    succeeds "the mended file is taken" inside systemctl reload evenkeel
    crowd_is_well "what was served went on"
}

restart_with_a_changed_file() {
    echo "a restart with a changed file"
    begin_crowd --bulk 2 --idle 50
    configure <<'END'
admin: { http: 127.0.0.1:9900 }
shutdown: { grace: 3s }
workers: 3
log: { sessions: all }
listeners:
  web: { bind: 443, pool: web }
  games: { protocol: udp, bind: 9901, pool: games, limits: { sessions_per_source: off } }
  more: { bind: 444, pool: web }
pools:
  web: { backends: [{ address: 127.0.0.1:7001, name: other }], health: { interval: 1s } }
  games: { backends: [127.0.0.1:7102], health: { check: off } }
END
    inside rm -f /run/hold-talks /run/hold-end
    start_peer holder hold 443 /run/hold-talks /run/hold-end
    until_true inside test -e /run/hold-talks || bad "a session lives"
    succeeds "restart succeeds" inside systemctl restart evenkeel
    succeeds "the new listener serves" peer ask 444
    same "with the new number of threads" 3 "$(inside sh -c "ls /proc/$(property MainPID)/task | while read t; do cat /proc/$(property MainPID)/task/\$t/comm; done | grep -c ^data-")"
    inside touch /run/hold-end
    until_true inside test -e /run/hold-end.done || true
    same "a session at a backend that left goes on to its end" "done" "$(inside cat /run/hold-end.done)"
    # Another number of threads is another place for some flows: those begin anew, and nothing else does.
    inside touch /run/crowd-stop
    until_true inside test -s /run/crowd.json || bad "the crowd ends"
    same "sessions went on" "0 0 0" "$(told lost) $(told wrong) $(told refused)"

    inside rm -f /run/hold-talks /run/hold-end /run/hold-end.done
    start_peer holder hold 444 /run/hold-talks /run/hold-end
    until_true inside test -e /run/hold-talks || bad "a session lives"
    crowd_file
    succeeds "restart without that listener" inside systemctl restart evenkeel
    until_true journal_has '"reason":"drained"' || true
    holds "its session ends as drained when the grace is over" '"reason":"drained"' "$(journal)"
    inside touch /run/hold-end
}

journal_has() { [[ $(journal) == *"$1"* ]]; }

next_program_is_wrong() {
    local program=/usr/local/bin/evenkeel pid
    echo "upgrades to programs that do not take over"
    crowd_file
    inside systemctl restart evenkeel
    inside cp $program /root/evenkeel-good
    begin_crowd --bulk 2 --idle 50
    pid=$(property MainPID)
    for kind in crashes hangs other-version refuses silent; do
        case $kind in
            crashes) put /root/next <<<$'#!/bin/sh\nexit 3' ;;
            hangs) put /root/next <<<$'#!/bin/sh\nexec sleep 1000' ;;
            other-version) put /root/next <<<$'#!/usr/bin/python3\nimport socket\ns = socket.socket(fileno=0)\ns.send(b"ready 99")\ns.recv(1)' ;;
            refuses) put /root/next <<<$'#!/usr/bin/python3\nimport socket\ns = socket.socket(fileno=0)\ns.send(b"refused the file is wrong")' ;;
            silent) sed "s/VERSION/$("$binary" manifest-version)/" <<<$'#!/usr/bin/python3\nimport socket, time\ns = socket.socket(fileno=0)\ns.send(b"ready VERSION")\ntime.sleep(1000)' | put /root/next ;;
        esac
        inside chmod 0755 /root/next
        # The service may not look into /root.
        inside install -m 0755 /root/next /usr/local/bin/evenkeel-next
        if inside $program upgrade --binary /usr/local/bin/evenkeel-next >/dev/null 2>&1; then
            bad "a program that $kind does not take over"
        else
            ok "a program that $kind does not take over"
        fi
        same "the old process goes on" "$pid active" "$(property MainPID) $(property ActiveState)"
        succeeds "and serves" peer ask 443
    done
    holds "and says so" "everything goes on in this process" "$(journal)"
    crowd_is_well "all of them"
}

next_program_at_a_restart() {
    local program=/usr/local/bin/evenkeel said
    echo "restarts into programs that do not take over"
    # Of another version: the sessions end as at a stop, in the time they are given.
    inside rm -f /run/hold-talks /run/hold-end /run/hold-end.done
    start_peer holder hold 443 /run/hold-talks /run/hold-end
    until_true inside test -e /run/hold-talks || bad "a session lives"
    put /root/next <<<$'#!/bin/sh\n[ "$1" = manifest-version ] && echo 99 && exit\nexec /root/evenkeel-good "$@"'
    inside sh -c 'chmod 0755 /root/next /root; cp /root/evenkeel-good /usr/local/bin/evenkeel-good; sed -i s:/root/evenkeel-good:/usr/local/bin/evenkeel-good: /root/next; mv /root/next /usr/local/bin/evenkeel'
    succeeds "of another version: restart succeeds" inside systemctl restart evenkeel
    said=$(journal)
    holds "and the journal says why sessions ended" "of another version of the handover" "$said"
    until_true inside test -e /run/hold-end.done || true
    same "its session was cut when the grace was over" cut "$(inside cat /run/hold-end.done)"
    inside cp /usr/local/bin/evenkeel-good $program
    inside systemctl restart evenkeel
    until_true peer ask 443 || bad "the good program serves"

    # One that crashes at its start: everything stays parked until a good one is there.
    begin_crowd --bulk 2 --idle 50
    put /root/next <<<$'#!/bin/sh\ncase $1 in run) [ -e /run/mended ] || exit 9 ;; esac\nexec /usr/local/bin/evenkeel-good "$@"'
    inside sh -c 'chmod 0755 /root/next; mv /root/next /usr/local/bin/evenkeel'
    inside systemctl restart evenkeel >/dev/null 2>&1 || true
    until_true bash -c "(( \$(nsenter --target $init --mount --pid --cgroup -- systemctl show --value -p NRestarts evenkeel) >= 2 ))" ||
        bad "it is tried again" "$(property NRestarts)"
    inside touch /run/mended
    if until_true peer ask 443; then ok "of one that crashes: the first that starts serves"; else bad "of one that crashes: the first that starts serves"; fi
    crowd_is_well "what was parked"
    inside cp /usr/local/bin/evenkeel-good $program
    inside systemctl restart evenkeel
}

doors_outlive_a_crash() {
    local pid
    echo "connects wait while a crashed program is started again"
    crowd_file
    # A stop ends what is kept, of earlier numbers of threads too.
    inside systemctl stop evenkeel
    inside systemctl start evenkeel
    until_true peer ask 443 || bad "the balancer answers"
    pid=$(property MainPID)
    inside rm -f /run/crowd-stop /run/crowd-ready /run/crowd.json
    inside kill -KILL "$pid"
    # RestartSec=1s: there is no process, and the door is open all the same.
    succeeds "a connect while no process runs is answered when one does" peer ask 443
    if until_true main_pid_changed_from "$pid"; then ok "by the next process"; else bad "by the next process"; fi
    crowd_file 'limits: { tcp_sessions: 5000 }'
    inside systemctl reload evenkeel
    same "the manager keeps a socket for each door and thread, and the park" \
        $((2 * $(inside nproc) + 2)) "$(property NFileDescriptorStore)"
    configure <<'END'
listeners: { web: { bind: 443, backends: [127.0.0.1:7101] } }
END
    inside systemctl reload evenkeel
    # The udp door is closed when its flows have had `shutdown.grace`.
    until_true property_is NFileDescriptorStore $(($(inside nproc) + 2)) || true
    same "those of a closed door are kept no longer" $(($(inside nproc) + 2)) "$(property NFileDescriptorStore)"
    pid=$(property MainPID)
    crowd_file
    inside kill -KILL "$pid"
    until_true main_pid_changed_from "$pid" || true
    same "what nobody wants at a start is removed" $((2 * $(inside nproc) + 2)) "$(property NFileDescriptorStore)"
}

without_the_store() {
    echo "a unit that keeps nothing"
    crowd_file
    drop_in store <<<$'[Service]\nFileDescriptorStoreMax=0'
    inside systemctl restart evenkeel
    inside systemctl restart evenkeel
    inside rm -f /run/hold-talks /run/hold-end /run/hold-end.done
    start_peer holder hold 443 /run/hold-talks /run/hold-end
    until_true inside test -e /run/hold-talks || bad "a session lives"
    inside systemctl restart evenkeel
    until_true inside test -e /run/hold-end.done || true
    same "a restart ends sessions as a stop does" cut "$(inside cat /run/hold-end.done)"
    holds "and says why" "keeps nothing for this service" "$(journal)"
    inside rm -r /run/systemd/system/evenkeel.service.d
    inside systemctl daemon-reload
    inside systemctl restart evenkeel
}

# A session that a restart may end; held_ended tells how it did.
hold_a_session() {
    inside rm -f /run/hold-talks /run/hold-end /run/hold-end.done
    start_peer holder hold 443 /run/hold-talks /run/hold-end
    until_true inside test -e /run/hold-talks || bad "a session lives"
}
held_ended() {
    until_true inside test -e /run/hold-end.done || true
    inside cat /run/hold-end.done
}

restart_that_nobody_explains() {
    echo "a restart without D-Bus, and a stop"
    start_crowd_server
    hold_a_session
    inside systemctl stop dbus.socket dbus.service 2>/dev/null
    succeeds "restart succeeds" inside systemctl restart evenkeel
    holds "and says that it could not ask" "since D-Bus does not answer: it is taken for one" "$(journal)"
    inside touch /run/hold-end
    same "its session goes on" "done" "$(held_ended)"
    inside systemctl start dbus.socket dbus.service
    until_true peer ask 443 || bad "the balancer answers"

    hold_a_session
    inside systemctl stop evenkeel
    inside systemctl start evenkeel
    same "a stop and a start end sessions" cut "$(held_ended)"
}

accepting_rests() { [[ $(field "s['accepting_rests']") == True ]]; }

restart_that_the_log_advises() {
    local before
    echo "a restart with more files of a program that sessions have filled"
    start_crowd_server
    crowd_file "limits: { tcp_sessions: 5000 }"
    drop_in files <<<$'[Service]\nLimitNOFILE=300'
    inside systemctl restart evenkeel
    hold_a_session
    inside systemd-run --quiet --collect --unit=filler -p LimitNOFILE=2000 /usr/bin/python3 -c \
        'import socket, time; held = [socket.create_connection(("127.0.0.1", 443)) for _ in range(300)]; time.sleep(600)'
    # The warning at the start says so as well: what is served at this moment tells it from what may come.
    until_true accepting_rests || bad "accepting rests"
    same "the status is there, and says that accepting rests" True "$(field "s['accepting_rests']")"
    before=$(field "s['listeners'][0]['ended']")
    drop_in files <<<$'[Service]\nLimitNOFILE=20000'
    succeeds "the restart succeeds" inside systemctl restart evenkeel
    until_true has_sessions 301 || bad "those that waited are served" "$(field "s['limits']['tcp_sessions']")"
    same "no session has ended" "$before" "$(field "s['listeners'][0]['ended']")"
    same "accepting goes on" False "$(field "s['accepting_rests']")"
    inside touch /run/hold-end
    same "one of before says its last words" "done" "$(held_ended)"
    inside systemctl stop filler 2>/dev/null || true
    inside rm -r /run/systemd/system/evenkeel.service.d
    inside systemctl daemon-reload
    crowd_file
    inside systemctl restart evenkeel
}
# has_sessions COUNT: so many TCP sessions are there.
has_sessions() { [[ $(field "s['limits']['tcp_sessions']['used']") == "$1" ]]; }

start_limit_is_hit() {
    echo "a service that fails for good"
    start_crowd_server
    drop_in limit <<<$'[Unit]\nStartLimitIntervalSec=60\nStartLimitBurst=2'
    hold_a_session
    inside cp /usr/local/bin/evenkeel /usr/local/bin/evenkeel-good
    put /root/next <<<$'#!/bin/sh\ncase $1 in run) exit 9 ;; esac\nexec /usr/local/bin/evenkeel-good "$@"'
    inside sh -c 'chmod 0755 /root/next; mv /root/next /usr/local/bin/evenkeel'
    inside systemctl restart evenkeel >/dev/null 2>&1 || true
    until_true property_has ActiveState failed || bad "it is given up" "$(property ActiveState)"
    same "what was kept is dropped: sessions are reset, and do not look whole" cut "$(held_ended)"
    inside rm -r /run/systemd/system/evenkeel.service.d
    inside systemctl daemon-reload
    inside mv /usr/local/bin/evenkeel-good /usr/local/bin/evenkeel
    inside systemctl reset-failed evenkeel
    succeeds "a start is all it needs then" inside systemctl start evenkeel
    succeeds "it serves" peer ask 443
}

next_program_hangs_at_a_restart() {
    echo "a restart into a program that hangs"
    start_crowd_server
    drop_in patience <<<$'[Service]\nTimeoutStartSec=2s'
    begin_crowd --bulk 2 --idle 50
    inside cp /usr/local/bin/evenkeel /usr/local/bin/evenkeel-good
    put /root/next <<<$'#!/bin/sh\ncase $1 in run) [ -e /run/mended ] || exec sleep 1000 ;; esac\nexec /usr/local/bin/evenkeel-good "$@"'
    inside rm -f /run/mended
    inside sh -c 'chmod 0755 /root/next; mv /root/next /usr/local/bin/evenkeel'
    if inside systemctl restart evenkeel >/dev/null 2>&1; then bad "the restart fails"; else ok "the restart fails"; fi
    inside touch /run/mended
    if until_true peer ask 443; then ok "the next start serves"; else bad "the next start serves"; fi
    crowd_is_well "what was parked"
    inside mv /usr/local/bin/evenkeel-good /usr/local/bin/evenkeel
    inside rm -r /run/systemd/system/evenkeel.service.d
    inside systemctl daemon-reload
    inside systemctl restart evenkeel
}

# The servers of the next scene; what is not installed is named, and its part left out.
start_real_servers() {
    local initdb
    initdb=$(compgen -G '/usr/lib/postgresql/*/bin/initdb' | tail -n 1) || true
    have_iperf=$(command -v iperf3) || echo "  left out: iperf3 is not installed"
    have_redis=$(command -v redis-server) || echo "  left out: redis-server is not installed"
    have_postgres=${initdb%/initdb}
    [[ -n $have_postgres ]] || echo "  left out: PostgreSQL is not installed"
    have_game=/usr/games/DDNet-Server
    [[ -x $have_game ]] || { have_game=; echo "  left out: ddnet-server is not installed"; }
    local run=(inside systemd-run --quiet --collect)
    if [[ -n $have_iperf ]]; then "${run[@]}" --unit=an-iperf iperf3 -s -B 127.0.0.1; fi
    if [[ -n $have_redis ]]; then
        "${run[@]}" --unit=a-redis redis-server --bind 127.0.0.1 --save '' --appendonly no
        until_true inside redis-cli -p 6400 ping || bad "redis answers through the balancer"
    fi
    if [[ -n $have_game ]]; then
        put /run/game.cfg <<<$'sv_register 0\nsv_ipv4only 1\nbindaddr 127.0.0.1\nsv_port 8303'
        "${run[@]}" --unit=a-game -p Environment=HOME=/run "$have_game" -f /run/game.cfg
    fi
    if [[ -n $have_postgres ]]; then
        inside install -d -o postgres /run/database
        "${run[@]}" --wait -p User=postgres "$have_postgres/initdb" -D /run/database/data -A trust -U postgres --no-sync
        "${run[@]}" --unit=a-postgres -p User=postgres "$have_postgres/postgres" -D /run/database/data -k /run/database \
            -c listen_addresses=127.0.0.1 -c port=5433 -c fsync=off
        until_true inside psql -h 127.0.0.1 -p 5432 -U postgres -c 'select 1' || bad "PostgreSQL answers through the balancer"
        succeeds "tables for pgbench" inside pgbench -i -q -h 127.0.0.1 -p 5433 -U postgres postgres
    fi
}

# client NAME COMMAND: in the background; its words are in /run/NAME then.
client() { inside systemd-run --quiet --collect --unit="$1" sh -c "$2 >/run/$1 2>&1"; }

real_clients_across_restarts() {
    local way said database="-h 127.0.0.1 -p 5432 -U postgres"
    echo "real clients across restarts"
    configure <<'END'
admin: { http: 127.0.0.1:9900 }
shutdown: { grace: 3s }
listeners:
  iperf: { bind: 5300, backends: [127.0.0.1:5201], health: { check: off } }
  redis: { bind: 6400, backends: [127.0.0.1:6379], health: { interval: 500ms, rise: 1 } }
  database: { bind: 5432, backends: [127.0.0.1:5433], health: { interval: 500ms, rise: 1 } }
  game: { protocol: udp, bind: 8304, backends: [127.0.0.1:8303], health: { check: off } }
END
    inside systemctl restart evenkeel
    start_real_servers
    inside rm -f /run/game-over
    if [[ -n $have_redis ]]; then
        client a-subscriber 'exec redis-cli -p 6400 subscribe news'
        # shellcheck disable=SC2016  # expanded by the inner shell
        until_true inside sh -c '[ "$(redis-cli -p 6379 pubsub numsub news | tail -n 1)" = 1 ]' || bad "it is subscribed"
    fi
    if [[ -n $have_game ]]; then client a-player "/usr/bin/python3 $parts/tests/systemd/peer.py play 8304 /run/game-over"; fi
    if [[ -n $have_postgres ]]; then
        client a-transaction "psql $database -At -c 'begin; create temp table t as select 42 as n; select pg_sleep(6); select n from t; commit'"
        client a-pgbench "pgbench $database -n -c 8 -T 6 postgres"
        client a-pgbench-of-short-ones "pgbench $database -n -S -C -c 4 -T 6 postgres"
    fi
    for way in up down; do
        if [[ -n $have_iperf ]]; then
            client "an-iperf-$way" "iperf3 -c 127.0.0.1 -p 5300 -t 3 -J $([[ $way == down ]] && echo -R)"
        fi
        restarts 3 systemctl restart evenkeel
        if [[ -n $have_redis ]]; then
            same "a message to a subscriber" 1 "$(inside redis-cli -p 6400 publish news "$way")"
        fi
        [[ -n $have_iperf ]] || continue
        until_true_not_active "an-iperf-$way"
        said=$(inside /usr/bin/python3 -c "import json; r = json.load(open('/run/an-iperf-$way')); print(r.get('error', 'whole'), r['end']['sum_received']['bytes'] > 1000000)" || true)
        same "iperf3 $way for its whole run" "whole True" "$said"
    done
    if [[ -n $have_redis ]]; then
        until_true inside grep -q down /run/a-subscriber || true
        same "the subscriber heard both" 2 "$(inside grep -cE '^(up|down)$' /run/a-subscriber)"
    fi
    if [[ -n $have_game ]]; then
        inside touch /run/game-over
        until_true_not_active a-player
        same "a player of a game has an answer to every question" played "$(inside cat /run/a-player)"
    fi
    if [[ -n $have_postgres ]]; then
        for said in a-transaction a-pgbench a-pgbench-of-short-ones; do until_true_not_active $said; done
        holds "a transaction goes on" 42 "$(inside cat /run/a-transaction)"
        holds "and ends" COMMIT "$(inside cat /run/a-transaction)"
        for said in a-pgbench a-pgbench-of-short-ones; do
            holds "$said for its whole run" "number of failed transactions: 0 " "$(inside cat /run/$said)"
            if inside grep -qiE 'error|aborted|fatal' /run/$said; then bad "$said without an error" "$(inside cat /run/$said)"; fi
        done
    fi
    inside systemctl stop an-iperf a-redis a-subscriber a-game a-postgres 2>/dev/null || true
    crowd_file
    inside systemctl restart evenkeel
}

fewer_files_and_another_user() {
    echo "restarts with fewer open files, and as another user"
    start_crowd_server
    begin_crowd --bulk 0 --idle 300 --flows 0 --short 0
    drop_in files <<<$'[Service]\nLimitNOFILE=300'
    succeeds "with fewer files than sockets: restart succeeds" inside systemctl restart evenkeel
    # The journal may be a little behind.
    until_true inside sh -c "journalctl --quiet -u evenkeel -o cat | grep -q LimitNOFILE=" || true
    holds "the journal says why the sessions ended" "raise LimitNOFILE=" "$(inside journalctl --quiet -u evenkeel -o cat)"
    succeeds "new ones are served" peer ask 443
    inside touch /run/crowd-stop
    until_true_not_active crowd
    inside rm -r /run/systemd/system/evenkeel.service.d
    inside systemctl daemon-reload
    inside systemctl restart evenkeel

    begin_crowd --bulk 2 --idle 50
    drop_in user <<<$'[Service]\nDynamicUser=no\nUser=daemon\nGroup=daemon'
    succeeds "as another user: restart succeeds" inside systemctl restart evenkeel
    same "it is that user" "$(inside id -u daemon)" "$(status_of "$(property MainPID)" Uid | cut -f 1)"
    crowd_is_well "the sockets went on"
    inside rm -r /run/systemd/system/evenkeel.service.d
    inside systemctl daemon-reload
    inside systemctl restart evenkeel
}

# Not in the usual run: for scripts/soak.
pauses_of_restarts() {
    local count
    start_crowd_server
    # Two files a session, and pipes only for those that carry much at the moment: the usual limit leaves room for pipes of all.
    crowd_file 'limits: { tcp_sessions: 9100 }'
    inside systemctl restart evenkeel
    for count in 1000 9000; do
        begin_crowd --exchange 1 --bulk 0 --flows 0 --short 0 --idle $count
        inside systemctl restart evenkeel
        inside touch /run/crowd-stop
        until_true inside test -s /run/crowd.json || bad "the crowd ends"
        until_true_not_active crowd
        same "nothing lost with $count sessions" 0 "$(told lost)"
        printf '          systemctl restart with %s sessions: largest gap %s ms\n' "$count" "$(told gap_ms)"
    done
}
