/*
 * The slot of a cluster that a key belongs to: CRC16 (XMODEM) of the key, or of its {tag}, modulo 16384.
 */
#ifndef DBRUN_REDIS_SLOT_H
#define DBRUN_REDIS_SLOT_H

#include <stddef.h>
#include <stdint.h>

enum { REDIS_SLOTS = 16384 };

/* 0 to REDIS_SLOTS - 1. */
uint16_t redis_slot(const char *key, size_t len);

#endif
