/* The hash slot of a key in a cluster: CRC16 (XMODEM) of the key, or of its {tag}, modulo 16384. */
#ifndef DBRUN_REDIS_HASH_SLOT_H
#define DBRUN_REDIS_HASH_SLOT_H

#include <stddef.h>
#include <stdint.h>

enum { REDIS_HASH_SLOTS = 16384 };

/* From 0 to REDIS_HASH_SLOTS - 1. */
uint16_t redis_hash_slot(const char *key, size_t len);

#endif
