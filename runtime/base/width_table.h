/*
 * Which characters take no column of a terminal, or two. Ranges, sorted.
 */
#ifndef DBRUN_BASE_WIDTH_TABLE_H
#define DBRUN_BASE_WIDTH_TABLE_H

#include <stddef.h>

struct width_range {
    unsigned first, last;
};

extern const struct width_range width_wide[], width_zero[], width_emoji[], width_modifier_base[];
extern const size_t width_wide_count, width_zero_count, width_emoji_count, width_modifier_base_count;

#endif
