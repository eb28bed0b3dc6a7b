/* Where should a guest of 4 CPUs and 500 MiB run, on a recorded host and on this one? It is placed there for a minute,
 * and then released.
 *     cc place.c $(pkg-config --cflags --libs placer) -o place && ./place RECORDED-HOST CLAIMS-DIR */
#include <placer.h>
#include <stdio.h>
#include <stdlib.h>

static placer_error *error;

static void check(int code)
{
    if (code != PLACER_OK) {
        fprintf(stderr, "place: %s\n", placer_error_text(error));
        exit(1);
    }
}

static void place_on(const char *root, const char *claims)
{
    placer_host *host;
    placer_request *guest;
    placer_advice *advice;
    int code;

    check(placer_host_open(root, 0, &host, &error));
    check(placer_host_set(host, "state-dir", claims, &error));
    check(placer_request_new(host, "4:500", &guest, &error));
    code = placer_place(host, guest, 0, 60000, &advice, &error);
    if (code == PLACER_ERR_NO_FIT) {
        printf("%s\n", placer_error_text(error));
        placer_error_free(error);
    } else {
        check(code);
        printf("nodes %s, CPUs %s\n", placer_advice_nodes(advice), placer_advice_cpus(advice));
        check(placer_release(host, placer_advice_claim(advice), &error));
        placer_advice_free(advice);
    }
    placer_request_free(guest);
    placer_host_close(host);
}

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    place_on(argv[1], argv[2]);
    place_on(NULL, argv[2]);
    return 0;
}
