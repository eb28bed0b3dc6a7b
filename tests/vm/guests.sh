# guests.sh - what the scripts that move guests in a booted guest have in common: steps, guests on node 0 of 4, and
# where everything of them is. Set before: memory, what a guest claims. A script ends with "exit $status". POSIX sh.
# shellcheck shell=sh
status=0

say() { # say WHAT FOUND WANTED TRUTH...
    what=$1 found=$2 wanted=$3
    shift 3
    if "$@"; then
        echo "ok $what: $found"
    else
        echo "NOT OK $what: $found (wanted $wanted)"
        status=1
    fi
}

is() { say "$1" "$2" "$3" [ "$2" = "$3" ]; } # is WHAT FOUND WANTED

launch() { # launch NAME OPTIONS... -- PROGRAM: starts a guest on node 0; sets pid when its memory is there
    name=$1
    shift
    placer launch --window 0 --cpus 1 --memory "$memory" --cache ignore "$@" >"/run/$name.out" 2>&1 &
    pid=$!
    tries=600
    until grep -q ready "/run/$name.out" 2>/dev/null; do
        tries=$((tries - 1))
        if [ $tries = 0 ] || ! kill -0 $pid 2>/dev/null; then
            echo "NOT OK $name does not run: $(cat "/run/$name.out")"
            exit 1
        fi
        sleep 0.1
    done
    pid=$(program $pid)
}

crowd() { # crowd MEMORY: holds nodes 1-3, MEMORY at first, so that all guests start on node 0
    for node in 1 2 3; do
        hold() { placer advise --window 0 --strict --within $node --hold 20m "1:$1" >/dev/null 2>&1; }
        hold "$1" || echo "NOT OK hold on $node"
        # And many CPUs, so that no guest is better off with a part of it there.
        for _ in 1 2 3 4 5 6; do hold 4M || echo "NOT OK small hold on $node"; done
        for size in 64M 16M; do while hold $size; do :; done; done
    done
}

release() { # release: lets go what crowd holds
    placer ps --json 2>/dev/null | tr -d ' \n' | sed 's/{"id"/\n{"id"/g' |
        sed -n 's/^{"id":"\([^"]*\)","kind":"hold".*/\1/p' | while read -r id; do placer release "$id" 2>/dev/null; done
}

claims() { placer ps --json 2>/dev/null | grep -c '"id":'; }

program() { # program PID: the guest's own process, which is the launcher's child where that waits for it
    child=$(cut -d ' ' -f 1 "/proc/$1/task/$1/children" 2>/dev/null)
    echo "${child:-$1}"
}

pages() { # pages PID: the pages of its own memory on nodes 0 to 3
    awk '{ own = /heap|anon=/ && !/file=/
           for (i = 3; own && i <= NF; i++) if (split($i, part, "=") == 2 && part[1] ~ /^N[0-9]+$/)
               pages[substr(part[1], 2)] += part[2] }
         END { print pages[0] + 0, pages[1] + 0, pages[2] + 0, pages[3] + 0 }' "/proc/$1/numa_maps"
}

nodes() { # nodes PID: the nodes with more than 1 MiB of its own memory
    pages "$1" | awk '{ for (i = 1; i <= 4; i++) if ($i > 256) out = out i - 1 " "; print out }' | xargs
}

cpus() { # cpus PID: the CPUs of its threads, each list once
    cat /proc/"$1"/task/*/status 2>/dev/null | sed -n 's/^Cpus_allowed_list:.//p' | sort -u | xargs
}

claim() { # claim PID: the nodes that its claim promises
    placer ps --json 2>/dev/null | tr -d ' \n' | sed 's/{"id"/\n{"id"/g' |
        sed -n "s/.*\"pid\":$1,.*\"nodes\":\"\([^\"]*\)\",\"promised\".*/\1/p"
}

place() { # place PID: where everything of it is: node of memory, CPUs, node of its claim
    echo "$(nodes "$1")/$(cpus "$1")/$(claim "$1")"
}

whole() { # whole PID: the node that it is on as a whole, or what is wrong
    on=$(nodes "$1")
    case $on in 0 | 1 | 2 | 3) ;; *) place "$1" && return ;; esac
    if [ "$(place "$1")" = "$on/$(cat /sys/devices/system/node/node"$on"/cpulist)/$on" ]; then echo "$on"; else place "$1"; fi
}
