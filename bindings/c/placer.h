/*
 * placer.h - which NUMA nodes a guest should run on, and claims that keep its memory and CPUs for it
 *
 * Link with -lplacer (pkg-config placer). Linux, 64 bits.
 *
 * Functions that can fail return PLACER_OK or a negative code. The last parameter, if it is not NULL, is set to NULL,
 * or on failure to an object with the code and a text, which the caller frees. Results are set to NULL on failure.
 *
 * Strings are in UTF-8 (paths are bytes) and belong to the object that returned them, until that is freed. Freeing
 * NULL does nothing. A host may be used by several threads at once, an advice too; a request by one thread at a time.
 *
 * Without PLACER_HOST_SAMPLER the library has no thread, and no file stays open between two calls: a program may fork,
 * close all descriptors or unload the library. A forked child may use a host of its parent's, unless another thread
 * was in a call with that host at the fork: its locks stay held in the child. SIGPIPE and signal handlers are left
 * alone.
 *
 * SPDX-License-Identifier: MIT OR Apache-2.0
 */
#ifndef PLACER_H
#define PLACER_H

#ifdef __cplusplus
extern "C" {
#endif

typedef struct placer_host placer_host;
typedef struct placer_request placer_request;
typedef struct placer_advice placer_advice;
typedef struct placer_error placer_error;

#define PLACER_OK 0
#define PLACER_ERR_ARGUMENT (-1)  /* NULL, or a text or flag that is not understood */
#define PLACER_ERR_HOST (-2)      /* the host cannot be read */
#define PLACER_ERR_NO_ADVICE (-3) /* there is no node for the request */
#define PLACER_ERR_CLAIM (-4)     /* the claims cannot be read or written; there is no such claim or process */
#define PLACER_ERR_BUSY (-5)      /* another process holds the lock of the claims for too long */
#define PLACER_ERR_FORKED (-6)    /* a host with a sampler, in a forked child */
#define PLACER_ERR_BUG (-7)       /* a bug in this library; the host can be used on */
#define PLACER_ERR_NO_FIT (-8)    /* the request does not fit, so nothing was claimed */
#define PLACER_ERR_CHANGED (-9)   /* the advice does not fit any more, so nothing was claimed */

/* A thread of the library samples the host, with all signals blocked: answers are faster, and the first one knows
 * the load after 250 ms. Set it after daemonizing: in a forked child each function that has this
 * host as an argument returns PLACER_ERR_FORKED at once, but placer_request_new, which works, and placer_host_close,
 * which frees nothing. */
#define PLACER_HOST_SAMPLER 1u

/* The version of the library, as "0.1.0". */
const char *placer_version(void);

/* Opens a host: NULL for the one this process runs on, or the directory of a recorded one (placer record DIR).
 * Close it with placer_host_close. Reads the environment: no other thread may call setenv meanwhile. */
int placer_host_open(const char *root, unsigned int flags, placer_host **host, placer_error **error);

/* Sets an option, for the questions that follow. The host is read anew, and a sampler is started anew.
 *
 *   claims      count (default): the claims of this host count in each answer; ignore
 *   state-dir   the directory of the claims. Default: /run/placer for root; for other users $XDG_RUNTIME_DIR/placer,
 *               and root's claims count too
 *   overcommit  how many times over memory may be promised: 1 (default) to 100
 *   window      milliseconds over which the CPU load is measured. Default: 1000 by the sampler. Without it 100, for
 *               which the first question waits, and one that comes more than a minute after the one before
 *   interval    milliseconds between two readings of the sampler: at least 10; default 250 */
int placer_host_set(placer_host *host, const char *key, const char *value, placer_error **error);

/* Returns how many milliseconds ago the host was read, by the sampler or for the last answer. The age grows if the
 * sampler cannot read the host or has ended by a bug; answers have a note then, and placer_host_set starts another.
 * Returns a negative code on failure. */
long placer_host_age_ms(const placer_host *host);

void placer_host_close(placer_host *host);

/* Makes a request from CPUS[:MEMORY]: CPUs with up to two decimals, memory in MiB or with K, M, G, T. What this process
 * may use by its affinity, cpuset and control groups limits it, as it is now. */
int placer_request_new(placer_host *host, const char *text, placer_request **request, placer_error **error);

/* Sets an option, with the words of `placer advise`:
 *
 *   policy (best, numad-2015, numad-2025), within (nodes), near (a device), pages (2M, 1G), memory-bound (0 to 1),
 *   prefer (room, pack), cache (prefer, require, largest, ignore), cores (any, fast, efficient)
 *   limits         process (default): reads anew what this process may use; none: the whole host, for a guest that
 *                  another program starts
 *   allowed-cpus, allowed-nodes   the CPUs, and the nodes whose memory, may be used: lists as "0-3,8" */
int placer_request_set(placer_request *request, const char *key, const char *value, placer_error **error);

void placer_request_free(placer_request *request);

/* Advises where a guest should run. Nothing is claimed. */
int placer_advise(placer_host *host, const placer_request *request, placer_advice **advice, placer_error **error);

/* Advises and claims in one step: no other process claims anything in between. What does not fit is not claimed.
 * The claim lasts as long as the process `pid` (`hold_ms` is 0), or is a hold of `hold_ms` milliseconds (`pid` is 0).
 * Waits while others decide: 250 ms for each of them, 5 s in all. */
int placer_place(placer_host *host, const placer_request *request, long pid, unsigned long hold_ms,
                 placer_advice **advice, placer_error **error);

/* Claims an earlier advice, if it still fits: PLACER_ERR_CHANGED if not. `claimed` is the same advice with the claim. */
int placer_claim(placer_host *host, const placer_advice *advice, long pid, unsigned long hold_ms,
                 placer_advice **claimed, placer_error **error);

/* Makes a claim, mostly a hold, that of a process; or holds it anew. It stays claimed in between. */
int placer_adopt(placer_host *host, const char *claim, long pid, unsigned long hold_ms, placer_error **error);

/* Ends a claim. */
int placer_release(placer_host *host, const char *claim, placer_error **error);

/* The nodes and the CPUs, as "0-3,8"; the claim, NULL if there is none; the whole answer, as `placer advise --json`
 * prints it (`placer schema advise` prints its schema), without `alternatives`, `numad` and `remedies`. */
const char *placer_advice_nodes(const placer_advice *advice);
const char *placer_advice_cpus(const placer_advice *advice);
const char *placer_advice_claim(const placer_advice *advice);
const char *placer_advice_json(const placer_advice *advice);

/* Whether the memory fits, and the nodes have as many CPUs as are requested. */
int placer_advice_fits(const placer_advice *advice);

void placer_advice_free(placer_advice *advice);

/* PLACER_OK and "" of NULL. */
int placer_error_code(const placer_error *error);
const char *placer_error_text(const placer_error *error);

void placer_error_free(placer_error *error);

#ifdef __cplusplus
}
#endif

#endif
