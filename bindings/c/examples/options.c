/* Each function and option once, and what wrong arguments get: options RECORDED-HOST CLAIMS-DIR
 * The recorded host has room for a guest of 1 CPU and 4 GiB once. */
#include <placer.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static placer_error *error;

/* Ends the program unless a call gives this code, with a text that has these words. */
static void expect(int found, int code, const char *words, int line)
{
    if (found != code || (code != PLACER_OK && (placer_error_code(error) != code ||
                                               strstr(placer_error_text(error), words) == NULL))) {
        fprintf(stderr, "options.c:%d: expected %d \"%s\", found %d \"%s\"\n", line, code, words, found,
                placer_error_text(error));
        exit(1);
    }
    placer_error_free(error);
    error = NULL;
}
#define OK(call) expect(call, PLACER_OK, "", __LINE__)
#define FAILS(code, words, call) expect(call, PLACER_ERR_##code, words, __LINE__)
#define HOLDS(condition) expect((condition) ? 0 : 1, PLACER_OK, #condition, __LINE__)

static void wrong_arguments(placer_host *host, placer_request *request)
{
    placer_host *other = NULL;
    placer_request *none = NULL;
    placer_advice *advice;

    FAILS(ARGUMENT, "host is NULL", placer_host_open(NULL, 0, NULL, &error));
    FAILS(ARGUMENT, "flags: expected 0 or PLACER_HOST_SAMPLER, found 0x7", placer_host_open(NULL, 7, &other, &error));
    FAILS(HOST, "/nonexistent/sys", placer_host_open("/nonexistent", 0, &other, &error));
    HOLDS(other == NULL);
    FAILS(ARGUMENT, "a host has no option \"colour\"", placer_host_set(host, "colour", "red", &error));
    FAILS(ARGUMENT, "overcommit: expected a factor", placer_host_set(host, "overcommit", "0.5", &error));
    FAILS(ARGUMENT, "window: expected milliseconds, found \"\"", placer_host_set(host, "window", NULL, &error));
    FAILS(ARGUMENT, "PLACER_HOST_SAMPLER", placer_host_set(host, "interval", "20", &error));
    FAILS(ARGUMENT, "write 4:500M", placer_request_new(host, "4:500MB", &none, &error));
    FAILS(ARGUMENT, "text is NULL", placer_request_new(host, NULL, &none, &error));
    FAILS(ARGUMENT, "text: expected UTF-8", placer_request_new(host, "\xff", &none, &error));
    FAILS(ARGUMENT, "within: expected a list as in 0-3,8, found \"3-\"", placer_request_set(request, "within", "3-", &error));
    FAILS(ARGUMENT, "a request has no option", placer_request_set(request, "memory", "1", &error));
    FAILS(ARGUMENT, "request is NULL", placer_advise(host, NULL, &advice, &error));
    FAILS(ARGUMENT, "expected a pid, or a hold", placer_place(host, request, 0, 0, &advice, &error));
    FAILS(ARGUMENT, "not both", placer_place(host, request, 1, 1, &advice, &error));
    FAILS(ARGUMENT, "pid: expected", placer_place(host, request, -1, 0, &advice, &error));
    FAILS(ARGUMENT, "claim: expected 8 hex digits", placer_release(host, "mine", &error));
    FAILS(CLAIM, "there is no claim 00000001", placer_release(host, "00000001", &error));
    HOLDS(placer_host_age_ms(NULL) == PLACER_ERR_ARGUMENT);
    HOLDS(placer_advice_nodes(NULL) == NULL && placer_advice_claim(NULL) == NULL && !placer_advice_fits(NULL));
    HOLDS(placer_error_code(NULL) == PLACER_OK && *placer_error_text(NULL) == '\0');
    /* Without a place for the error the code is all there is. */
    HOLDS(placer_host_set(host, "colour", "red", NULL) == PLACER_ERR_ARGUMENT);
    placer_advice_free(NULL);
    placer_request_free(NULL);
    placer_host_close(NULL);
}

static void options_of_a_request(placer_host *host)
{
    static const char *const options[][2] = {
        { "within", "0-1" }, { "memory-bound", "0.7" }, { "prefer", "pack" }, { "cache", "ignore" }, { "cores", "any" },
        { "limits", "none" }, { "limits", "process" }, { "allowed-cpus", "0-1" }, { "allowed-nodes", "0" },
        { "policy", "numad-2015" }, { "policy", "numad-2025" }, { "policy", "best" },
    };
    placer_request *request;
    placer_advice *advice;
    size_t i;

    OK(placer_request_new(host, "1:100", &request, &error));
    for (i = 0; i < sizeof options / sizeof *options; i++)
        OK(placer_request_set(request, options[i][0], options[i][1], &error));
    OK(placer_advise(host, request, &advice, &error));
    HOLDS(strcmp(placer_advice_nodes(advice), "0") == 0 && strcmp(placer_advice_cpus(advice), "0-1") == 0);
    placer_advice_free(advice);
    OK(placer_request_set(request, "pages", "2M", &error));
    OK(placer_advise(host, request, &advice, &error));
    HOLDS(!placer_advice_fits(advice));
    placer_advice_free(advice);
    FAILS(ARGUMENT, "eth9", placer_request_set(request, "near", "eth9", &error));
    OK(placer_request_set(request, "policy", "numad-2015", &error));
    FAILS(ARGUMENT, "prefer is for policy best", placer_request_set(request, "prefer", "room", &error));
    placer_request_free(request);
}

static void claims(placer_host *host, placer_request *request)
{
    placer_advice *advice, *held, *none;
    char id[9];

    OK(placer_advise(host, request, &advice, &error));
    HOLDS(placer_advice_fits(advice) && placer_advice_claim(advice) == NULL);
    OK(placer_claim(host, advice, 0, 60000, &held, &error));
    strcpy(id, placer_advice_claim(held));
    HOLDS(strstr(placer_advice_json(held), id) != NULL);
    FAILS(CHANGED, "does not fit any more", placer_claim(host, advice, 0, 60000, &none, &error));
    FAILS(NO_FIT, "does not fit", placer_place(host, request, getpid(), 0, &none, &error));
    HOLDS(none == NULL);
    OK(placer_adopt(host, id, getpid(), 0, &error));
    placer_advice_free(held);
    OK(placer_advise(host, request, &held, &error));
    HOLDS(!placer_advice_fits(held));
    placer_advice_free(held);
    /* Others' claims do not count where they are ignored, and none can be made. */
    OK(placer_host_set(host, "claims", "ignore", &error));
    OK(placer_advise(host, request, &held, &error));
    HOLDS(placer_advice_fits(held));
    placer_advice_free(held);
    FAILS(ARGUMENT, "switched off", placer_release(host, id, &error));
    OK(placer_host_set(host, "claims", "count", &error));
    OK(placer_host_set(host, "overcommit", "2", &error));
    OK(placer_place(host, request, getpid(), 0, &held, &error));
    OK(placer_release(host, placer_advice_claim(held), &error));
    placer_advice_free(held);
    OK(placer_release(host, id, &error));
    placer_advice_free(advice);
}

int main(int argc, char **argv)
{
    placer_host *host;
    placer_request *request;
    unsigned int flags;

    if (argc != 3)
        return 2;
    for (flags = 0; flags <= PLACER_HOST_SAMPLER; flags++) {
        OK(placer_host_open(argv[1], flags, &host, &error));
        OK(placer_host_set(host, "state-dir", argv[2], &error));
        OK(placer_host_set(host, "window", "50", &error));
        if (flags == PLACER_HOST_SAMPLER)
            OK(placer_host_set(host, "interval", "20", &error));
        OK(placer_request_new(host, "1:4G", &request, &error));
        HOLDS(placer_host_age_ms(host) >= 0);
        if (flags == 0)
            wrong_arguments(host, request);
        options_of_a_request(host);
        claims(host, request);
        placer_request_free(request);
        placer_host_close(host);
    }
    printf("libplacer %s\n", placer_version());
    return 0;
}
