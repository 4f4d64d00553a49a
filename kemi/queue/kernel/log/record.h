/* SPDX-License-Identifier: GPL-2.0-or-later */
/* An item that is to be added, as the bytes of its record (docs/format.md, Chunks, records, entries). */
#ifndef K_RECORD_H
#define K_RECORD_H

#include "../segment/queue.h"

#define NOT_YET (-1.0) /* time of adding, of which it is not known whether it is needed: most keys are there */

typedef struct {
    const char *key, *value;
    size_t key_length, value_length;
    uint64_t step, hash; /* of the key; of a keyed queue only */
    double added;
    int is_padded; /* zeros are written up to the step */
} Record;

static inline void
fill_head(char *head, const Record *record)
{
    uint32_t numbers[4] = {(uint32_t)record->step, (uint32_t)record->key_length, (uint32_t)record->value_length, 0};
    memcpy(head, numbers, sizeof numbers);
    memcpy(head + K_R_ADDED, &record->added, sizeof record->added);
}

#endif
