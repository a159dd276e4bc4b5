#ifndef SERVER_MAP_H
#define SERVER_MAP_H
#include "server/group.h"

/* The shard map of this node: every partition it knows, those that it holds a replica of and those that others told of.
 * About its own the replica is the authority (R12); about the others their leaders are, who tell all nodes of each new
 * descriptor and each change of leader, and anew when a link comes up and every few seconds. Of two descriptors of one partition the higher epoch
 * pair wins; a key is looked up where the range epoch is highest. Nothing of it is durable, and no answer depends on
 * it: a request that it sends astray is refused there and routed again. */

/* A partition's writes are taken in the order they came, also those that have to wait or be sent again (request_route.c). */
struct line {
    bool is_held;           /* an earlier write is parked: later ones park behind it */
    bool is_refused;        /* one under way came back: nothing is sent until all have */
    uint64_t blocked_walk;  /* the walk over open requests that met a parked write */
    uint32_t sent, sent_to; /* forwarded writes under way, and the node they go to */
    uint32_t round;         /* of the line, less one */
    uint32_t after;         /* a partition whose writes under way may be of this line, this one having been a part of it; 0: none */
};

struct seats;
struct partition {
    uint32_t id;
    struct group *group;      /* the replica here; NULL: none */
    struct descriptor *told;  /* without one, or newer than that: as its leader last told; NULL: never. Owned */
    uint32_t leader;          /* likewise: its node; 0: unknown */
    uint64_t term;            /* of that leader */
    bool has_ended;           /* what was told of it was overtaken by who holds all of its keys since: a merge */
    struct load_report *load; /* as its leader told who leads partition 0; NULL: never. Owned */
    struct line line;
    struct seats *seats; /* replicas on other workers of this node (seats.h); NULL: there never was one. Owned */
};

struct partition *map_get(const struct worker *w, uint32_t id); /* NULL: never heard of */
struct partition *map_make(struct worker *w, uint32_t id);      /* heard of from now on; NULL: out of memory */
bool map_has_ended(const struct worker *w, uint32_t id);        /* by a merge, as who has its keys said, or a replica here knew; it never comes back */
/* The partition that holds an encoded key; NULL: not known. */
struct partition *map_find(const struct worker *w, struct kv_slice encoded);
/* Every key that the keyspace can have is in a known partition. */
bool map_is_whole(const struct worker *w, const struct kv_keyspace *k);
/* The one that holds what lies just before the key, if it ends there; NULL: not known, or it goes on. */
struct partition *map_ending(const struct worker *w, struct kv_slice encoded);
/* In order of their ranges, overlaps and all; NULL at the end. */
struct partition *map_at(const struct worker *w, uint32_t index);
static inline struct partition *map_slot(const struct worker *w, uint32_t slot) /* of keyspace `default` */
{
    return w->slot_partitions[w->slots[slot]];
}
const struct descriptor *map_descriptor(const struct partition *p); /* NULL: not known */
uint32_t map_leader(const struct partition *p);                     /* its node; 0: unknown */
/* A node to forward to, or a worker of this one (siblings.h): the leader, else one that is connected and holds a replica; 0: none. */
uint32_t map_way(const struct worker *w, const struct partition *p);
/* Its replica here can serve reads at levels below linearizable. */
bool map_serves(const struct partition *p);
/* The node to ask at such a level: of those connected that hold a voter the one that answers soonest (choice.h); 0: none. */
uint32_t map_nearest(const struct worker *w, const struct partition *p);
/* Neither a replica here nor a link to a node that has one, or a replica without contact: others may know better. */
bool map_is_out_of_touch(const struct worker *w, const struct partition *p, uint64_t now_ns);

void map_add_group(struct worker *w, struct group *g);    /* a replica begins here */
void map_remove_group(struct worker *w, struct group *g); /* and ends; the partition stays known */
void map_changed(struct worker *w);                       /* a range changed: looked up anew from the next turn's end on, or map_settle() */
void map_settle(struct worker *w);
/* `child` was a part of `parent`: its writes stand behind what the parent's line owes. */
void map_inherit_line(struct partition *parent, struct partition *child);

/* `part` has become a part of `whole`: likewise. */
void map_join_line(struct partition *whole, struct partition *part);

void map_tell(struct group *g);        /* it leads, and something about it is new: all nodes are to know */
void map_tell_again(struct worker *w); /* a link came up */
void map_tick(struct worker *w, uint64_t now_ns);
void map_learn(struct worker *w, const struct descriptor *d, uint32_t leader, uint64_t term);
void map_learn_leader(struct worker *w, uint32_t id, uint32_t leader); /* from a refusal; 0: nothing */
void map_forget(struct worker *w);                                     /* what was told of partitions of dropped keyspaces */
void map_free(struct worker *w);
#endif
