#ifndef SIM_DISK_SIM_H
#define SIM_DISK_SIM_H
#include "storage/disk_mem.h"
#include "tests/sim/env_sim.h"

/* A host's disk on the virtual clock: storage/disk_mem.h, with every append and work
 * completed at a seeded moment. Survives its host's processes. */
struct disk_sim;
struct disk_sim_options {
    struct sim *sim;
    struct sim_host *host;
    uint64_t seed;
    uint64_t capacity;                 /* bytes; 0 = no limit */
    uint64_t sync_min_ns, sync_max_ns; /* one append with its sync */
    uint64_t work_max_ns;
};
struct disk_sim *disk_sim_create(const struct disk_sim_options *o); /* NULL: out of memory */
void disk_sim_destroy(struct disk_sim *d);
struct disk *disk_sim_disk(struct disk_sim *d);
struct disk_mem *disk_sim_mem(struct disk_sim *d); /* for faults */
/* Latencies times so much; 1 = normal. Log and checkpoint may stand on different devices. */
void disk_sim_slow(struct disk_sim *d, uint32_t append_factor, uint32_t work_factor);
/* With sim_host_kill(): what waited never happens; SIM_POWER loses what was not synced. */
void disk_sim_crash(struct disk_sim *d, enum sim_death how);
void disk_sim_restart(struct disk_sim *d);
#endif
