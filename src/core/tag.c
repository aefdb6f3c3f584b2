#include "core/tag.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

struct tag *tag_create(const uint32_t *ids, uint32_t id_count)
{
  struct tag *tag = malloc(sizeof *tag + id_count * sizeof *ids);
  if (!tag) return NULL;
  *tag = (struct tag){.refs = 1, .id_count = id_count};
  if (id_count) memcpy(tag->ids, ids, id_count * sizeof *ids);
  return tag;
}

void tag_unref(struct tag *tag)
{
  if (!tag) return;
  assert(tag->refs > 0);
  if (--tag->refs == 0) free(tag);
}
