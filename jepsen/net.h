#ifndef JEPSEN_NET_H
#define JEPSEN_NET_H
#include <stdbool.h>
#include <stdint.h>

/* The namespace's loopback, cut and made lossy by nftables. Each fault has a chain of its own, so
 * that several may act at once and each proves by its counter that it dropped something. Node I is
 * 127.0.0.I; clients have other addresses and are never touched. All calls block for the
 * milliseconds that nft takes. False, or UINT64_MAX: `why` holds nft's words. */
enum { NET_WHY_BYTES = 200 };
typedef uint32_t net_nodes; /* bit I - 1: node I */

bool net_open(char why[NET_WHY_BYTES]); /* loopback up, an empty table */
/* Drops packets from node I to every node in to[I - 1]. */
bool net_cut(uint32_t fault, const net_nodes to[], uint32_t nodes, char why[NET_WHY_BYTES]);
/* Drops `percent` of all packets between nodes. */
bool net_lose(uint32_t fault, uint32_t percent, uint32_t nodes, char why[NET_WHY_BYTES]);
uint64_t net_dropped(uint32_t fault, char why[NET_WHY_BYTES]);
bool net_heal(uint32_t fault, char why[NET_WHY_BYTES]);
#endif
