/* A packed block: how its bands and chunks lie in memory, and the layers' own packed forms. Offsets count floats. */
#ifndef MOBILEPRUNE_FUSED_H
#define MOBILEPRUNE_FUSED_H

#include "internal.h"

#define MAX_WORKERS 8 /* that have scratch of their own */

/* A band is some rows of the output, for all channels. What it needs of the input is copied with zeros behind each row, so
   that many rows make one line of pixels for the expanding layer, which then stores into padded planes as they are. */
typedef struct {
  mp_block block;
  int64_t out[2];
  int64_t pitch, lead;                          /* of padded planes: from row to row, and before the first */
  int64_t in_rows, out_rows, bands;             /* rows of a band, at most */
  int64_t chunk, chunks;                        /* of expanded channels, whose padded planes are there at a time */
  int64_t copy_plane, padded_plane, whole_plane; /* from channel to channel: of the copy, padded, and of the depthwise output */
  int64_t copies, wholes, sums, worker;         /* where a worker's scratch has them, behind the padded planes; all of it */
} fused_shape;

struct mp_packed_block {
  fused_shape at;
  const instruction_set *set;
  const float *taps, *bias;
  const int32_t *kept;            /* all bits for the image's pixels of padded rows, none for those between */
  const mp_packed *const *expand; /* by chunk */
  const mp_packed *project;
};

#endif
