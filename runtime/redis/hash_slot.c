#include "redis/hash_slot.h"

#include <string.h>

/* Four bits at a time: the table fits two cache lines. */
static uint16_t crc16(const unsigned char *p, size_t len)
{
    static const uint16_t table[16] = {0x0000, 0x1021, 0x2042, 0x3063, 0x4084, 0x50a5, 0x60c6, 0x70e7,
                                       0x8108, 0x9129, 0xa14a, 0xb16b, 0xc18c, 0xd1ad, 0xe1ce, 0xf1ef};
    unsigned crc = 0;
    for (size_t i = 0; i < len; i++) {
        crc = ((crc << 4) ^ table[((crc >> 12) ^ (p[i] >> 4)) & 15]) & 0xffff;
        crc = ((crc << 4) ^ table[((crc >> 12) ^ p[i]) & 15]) & 0xffff;
    }
    return (uint16_t)crc;
}

uint16_t redis_hash_slot(const char *key, size_t len)
{
    /* Only the part in the first {...} counts, unless it is empty. */
    const char *open = len ? memchr(key, '{', len) : NULL;
    if (open) {
        const char *tag = open + 1;
        const char *close = memchr(tag, '}', len - (size_t)(tag - key));
        if (close && close > tag) {
            key = tag;
            len = (size_t)(close - tag);
        }
    }
    return crc16((const unsigned char *)key, len) & (REDIS_HASH_SLOTS - 1);
}
