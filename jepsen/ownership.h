#ifndef JEPSEN_OWNERSHIP_H
#define JEPSEN_OWNERSHIP_H
struct run;
/* After the final reads: by the map of every node the partitions of keyspace `default` lie side by side from its first slot to its last,
 * owned by the same partitions at the same range epochs, so that every key has one owner; and a scan of all of them meets
 * every key that the final reads found once, and no other. run_fail() says what is not so. */
void ownership_judge(struct run *r);
#endif
