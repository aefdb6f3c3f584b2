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

enum status tag_add(struct tag **tag, uint32_t id)
{
  uint32_t count = *tag ? (*tag)->id_count : 0;
  assert(!*tag || (*tag)->refs == 1);
  if ((count & (count - 1)) == 0) {  // none, or a power of two of them: there is no room for more
    uint32_t capacity = count ? count * 2 : 1;
    struct tag *bigger = realloc(*tag, sizeof *bigger + capacity * sizeof bigger->ids[0]);
    if (!bigger) return ERR_NO_MEMORY;
    if (count == 0) *bigger = (struct tag){.refs = 1};
    *tag = bigger;
  }
  (*tag)->ids[(*tag)->id_count++] = id;
  return OK;
}

void tag_unref(struct tag *tag)
{
  if (!tag) return;
  assert(tag->refs > 0);
  if (--tag->refs == 0) free(tag);
}
