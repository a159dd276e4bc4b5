#ifndef STORAGE_CHECKPOINT_MEM_H
#define STORAGE_CHECKPOINT_MEM_H
#include "storage/checkpoint.h"

/* The model: sorted rows in memory, all-or-nothing commits. For the simulator and
 * the conformance test. `crash` throws away an open transaction and all views, as
 * a process death would; the committed state survives for as long as the object. */
struct checkpoint *checkpoint_mem_create(void);
void checkpoint_mem_crash(struct checkpoint *c);
#endif
