/* NVIDIA's library as a script has it: see fake_nvml.rs. The script is read anew at each call. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { OK = 0, UNINITIALIZED = 1, INVALID = 2, NOT_SUPPORTED = 3, INSUFFICIENT_SIZE = 7, LOST = 15 };
enum { MOST_CARDS = 8, MOST_PROCESSES = 16 };

struct process { unsigned pid; unsigned long long bytes; unsigned instance, compute_instance; };
struct card {
    char uuid[96], name[96];
    unsigned busy, fails;
    unsigned long long used, total, reasons;
    struct process processes[MOST_PROCESSES];
    unsigned count;
};
struct script { struct card cards[MOST_CARDS]; unsigned count, fails; int hangs; };

/* The order of the cards stands for as long as the library is initialised. */
static char order[MOST_CARDS][96];
static unsigned ordered;

static void read_script(struct script *script) {
    memset(script, 0, sizeof *script);
    const char *path = getenv("LC_FAKE_NVML");
    FILE *file = path ? fopen(path, "r") : NULL;
    if (!file) { script->fails = 9; return; } /* the driver is not loaded */
    char line[512];
    while (fgets(line, sizeof line, file)) {
        struct card card = {0};
        struct process process = {.instance = -1u, .compute_instance = -1u};
        if (sscanf(line, "card %95s %95s busy=%u used=%llu total=%llu reasons=%llu fails=%u", card.uuid, card.name,
                   &card.busy, &card.used, &card.total, &card.reasons, &card.fails) == 7 && script->count < MOST_CARDS)
            script->cards[script->count++] = card;
        else if (sscanf(line, "process %u %llu", &process.pid, &process.bytes) == 2 && script->count) {
            struct card *last = &script->cards[script->count - 1];
            if (last->count < MOST_PROCESSES) last->processes[last->count++] = process;
        } else if (sscanf(line, "fails %u", &script->fails) != 1 && strcmp(line, "hangs\n") == 0)
            script->hangs = 1;
    }
    fclose(file);
}

static unsigned run(struct script *script) {
    for (read_script(script); script->hangs; read_script(script)) usleep(10000);
    if (script->fails) ordered = 0; /* it must be initialised anew */
    return script->fails;
}

static unsigned find(void *device, struct script *script, struct card **card) {
    unsigned failure = run(script), place = (unsigned)(size_t)device - 1;
    if (failure) return failure;
    if (!ordered) return UNINITIALIZED;
    if (place >= ordered) return INVALID;
    for (unsigned i = 0; i < script->count; i++)
        if (strcmp(script->cards[i].uuid, order[place]) == 0) {
            *card = &script->cards[i];
            return (*card)->fails;
        }
    return LOST;
}

#define OF_CARD(work)                                          \
    do {                                                       \
        struct script script;                                  \
        struct card *card;                                     \
        unsigned failure = find(device, &script, &card);       \
        if (failure) return failure;                           \
        work;                                                  \
        return OK;                                             \
    } while (0)

unsigned nvmlInit_v2(void) {
    struct script script;
    unsigned failure = run(&script);
    if (failure) return failure;
    ordered = script.count;
    for (unsigned i = 0; i < ordered; i++) strcpy(order[i], script.cards[i].uuid);
    return OK;
}
unsigned nvmlShutdown(void) { ordered = 0; return OK; }
unsigned nvmlDeviceGetCount_v2(unsigned *count) { *count = ordered; return OK; }
unsigned nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device) {
    if (index >= ordered) return INVALID;
    *device = (void *)(size_t)(index + 1);
    return OK;
}
unsigned nvmlSystemGetDriverVersion(char *version, unsigned length) { return snprintf(version, length, "570.86"), OK; }
unsigned nvmlDeviceGetUUID(void *device, char *uuid, unsigned length) { OF_CARD(snprintf(uuid, length, "%s", card->uuid)); }
unsigned nvmlDeviceGetName(void *device, char *name, unsigned length) { OF_CARD(snprintf(name, length, "%s", card->name)); }
unsigned nvmlDeviceGetUtilizationRates(void *device, unsigned *rates) { OF_CARD((rates[0] = card->busy, rates[1] = card->busy / 2)); }
unsigned nvmlDeviceGetMemoryInfo_v2(void *device, void *info) {
    struct { unsigned version; unsigned long long total, reserved, free, used; } *memory = info;
    OF_CARD((memory->total = card->total, memory->used = card->used, memory->free = card->total - card->used, memory->reserved = 0));
}
unsigned nvmlDeviceGetTemperature(void *device, unsigned sensor, unsigned *celsius) { (void)sensor; OF_CARD(*celsius = 60); }
unsigned nvmlDeviceGetPowerUsage(void *device, unsigned *milliwatts) { OF_CARD(*milliwatts = 74600); }
unsigned nvmlDeviceGetEnforcedPowerLimit(void *device, unsigned *milliwatts) { OF_CARD(*milliwatts = 150000); }
unsigned nvmlDeviceGetClockInfo(void *device, unsigned kind, unsigned *megahertz) { (void)kind; OF_CARD(*megahertz = 1700); }
unsigned nvmlDeviceGetCurrentClocksThrottleReasons(void *device, unsigned long long *reasons) { OF_CARD(*reasons = card->reasons); }
unsigned nvmlDeviceGetTotalEnergyConsumption(void *device, unsigned long long *millijoules) { OF_CARD(*millijoules = 5500); }
unsigned nvmlDeviceGetNumFans(void *device, unsigned *fans) { OF_CARD(*fans = 0); }
unsigned nvmlDeviceGetTotalEccErrors(void *device, unsigned kind, unsigned counter, unsigned long long *errors) {
    (void)counter;
    OF_CARD(*errors = kind == 0 ? 3 : 0);
}
unsigned nvmlDeviceGetComputeRunningProcesses_v3(void *device, unsigned *count, struct process *processes) {
    unsigned room = *count;
    struct script script;
    struct card *card;
    unsigned failure = find(device, &script, &card);
    if (failure) return failure;
    *count = card->count;
    if (room < card->count) return INSUFFICIENT_SIZE;
    if (processes) memcpy(processes, card->processes, card->count * sizeof *processes);
    return OK;
}
