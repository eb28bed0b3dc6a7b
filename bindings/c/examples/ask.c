/* Prints an answer as JSON: ask [-s] [-c CLAIMS-DIR] [-n COUNT] [-r RECORDED-HOST] REQUEST
 * With -s a thread of the library samples the host; with -c the claims in that directory count. With -n the time of
 * an answer is printed instead: the lowest and the median of COUNT answers, in nanoseconds. */
#define _GNU_SOURCE
#include <placer.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static placer_error *error;

static void check(int code)
{
    if (code != PLACER_OK) {
        fprintf(stderr, "ask: %s\n", placer_error_text(error));
        exit(1);
    }
}

static long now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000L + now.tv_nsec;
}

static int by_size(const void *a, const void *b)
{
    long left = *(const long *)a, right = *(const long *)b;

    return (left > right) - (left < right);
}

static void measure(placer_host *host, const placer_request *request, size_t count)
{
    long *times = calloc(count, sizeof *times);
    placer_advice *advice;
    size_t i;

    if (times == NULL)
        exit(1);
    for (i = 0; i < count; i++) {
        long start = now_ns();
        check(placer_advise(host, request, &advice, &error));
        placer_advice_free(advice);
        times[i] = now_ns() - start;
    }
    qsort(times, count, sizeof *times, by_size);
    printf("%ld %ld\n", times[0], times[count / 2]);
    free(times);
}

int main(int argc, char **argv)
{
    const char *claims = NULL, *root = NULL;
    unsigned int flags = 0;
    long count = 0;
    int option;
    placer_host *host;
    placer_request *request;
    placer_advice *advice;

    while ((option = getopt(argc, argv, "sc:n:r:")) != -1) {
        switch (option) {
        case 's': flags = PLACER_HOST_SAMPLER; break;
        case 'c': claims = optarg; break;
        case 'n': count = atol(optarg); break;
        case 'r': root = optarg; break;
        default: return 2;
        }
    }
    if (optind + 1 != argc || count < 0)
        return 2;
    check(placer_host_open(root, flags, &host, &error));
    check(placer_host_set(host, claims ? "state-dir" : "claims", claims ? claims : "ignore", &error));
    check(placer_request_new(host, argv[optind], &request, &error));
    check(placer_advise(host, request, &advice, &error));
    if (count > 0)
        measure(host, request, (size_t)count);
    else
        puts(placer_advice_json(advice));
    placer_advice_free(advice);
    placer_request_free(request);
    placer_host_close(host);
    return 0;
}
