// How many references each segment has, and which messages were copied while full blocks still refer to their old places.
#include "store/catalog_internal.h"

#include <assert.h>
#include <string.h>

#include "base/search.h"

// First entry whose segment is not below. The newest segment is what most changes are about.
static size_t live_index(const struct catalog *catalog, uint32_t segment)
{
  size_t count = catalog->live_count;
  if (count > 0 && catalog->live[count - 1].segment <= segment)
    return catalog->live[count - 1].segment == segment ? count - 1 : count;
  return SEARCH_FIRST(i, count, catalog->live[i].segment < segment);
}

static struct segment_live *live_find(const struct catalog *catalog, uint32_t segment)
{
  size_t index = live_index(catalog, segment);
  return index < catalog->live_count && catalog->live[index].segment == segment ? &catalog->live[index] : NULL;
}

const struct segment_live *catalog_live(const struct catalog *catalog, uint32_t segment)
{
  const struct segment_live *live = live_find(catalog, segment);
  return live && live->references > 0 ? live : NULL;
}

enum status catalog_live_ensure(struct catalog *catalog, uint32_t segment)
{
  size_t index = live_index(catalog, segment);
  if (index < catalog->live_count && catalog->live[index].segment == segment) return OK;
  void *live = catalog->live;
  enum status status = catalog_grow_array(&live, &catalog->live_capacity, catalog->live_count + 1, sizeof *catalog->live);
  if (status != OK) return status;
  catalog->live = live;
  memmove(&catalog->live[index + 1], &catalog->live[index], (catalog->live_count - index) * sizeof *catalog->live);
  catalog->live[index] = (struct segment_live){.segment = segment};
  catalog->live_count++;
  return OK;
}

void catalog_live_add(struct catalog *catalog, uint32_t segment, uint64_t references, uint64_t bytes)
{
  struct segment_live *live = live_find(catalog, segment);
  assert(live);
  live->references += references;
  live->bytes += bytes;
}

void catalog_live_release(struct catalog *catalog, uint32_t segment, uint64_t references, uint64_t bytes)
{
  struct segment_live *live = live_find(catalog, segment);
  assert(live);
  assert(live->references >= references);
  assert(live->bytes >= bytes);
  live->references -= references;
  live->bytes -= bytes;
  if (live->references > 0) return;
  assert(live->bytes == 0);
  size_t behind = catalog->live_count - (size_t)(live - catalog->live) - 1;
  memmove(live, live + 1, behind * sizeof *live);
  catalog->live_count--;
  catalog->moved_stale = true;
  catalog->deaths++;
}

// ---- Copies

static size_t moved_index(const struct catalog *catalog, uint64_t from)
{
  size_t count = catalog->moved_count;
  if (count > 0 && catalog->moved[count - 1].from < from) return count;
  return SEARCH_FIRST(i, count, catalog->moved[i].from < from);
}

enum status catalog_moved_ensure(struct catalog *catalog)
{
  void *moved = catalog->moved;
  enum status status =
      catalog_grow_array(&moved, &catalog->moved_capacity, catalog->moved_count + 1, sizeof *catalog->moved);
  catalog->moved = moved;
  return status;
}

void catalog_moved_put(struct catalog *catalog, uint64_t from, uint64_t to)
{
  size_t index = moved_index(catalog, from);
  catalog_live_add(catalog, position_segment(to), 1, 0);
  if (index < catalog->moved_count && catalog->moved[index].from == from) {
    uint64_t before = catalog->moved[index].to;
    catalog->moved[index].to = to;
    catalog_live_release(catalog, position_segment(before), 1, 0);
    return;
  }
  assert(catalog->moved_count < catalog->moved_capacity);
  memmove(&catalog->moved[index + 1], &catalog->moved[index], (catalog->moved_count - index) * sizeof *catalog->moved);
  catalog->moved[index] = (struct moved){.from = from, .to = to};
  catalog->moved_count++;
}

uint64_t catalog_moved_find(const struct catalog *catalog, uint64_t from)
{
  size_t index = moved_index(catalog, from);
  return index < catalog->moved_count && catalog->moved[index].from == from ? catalog->moved[index].to : 0;
}

void catalog_moved_tidy(struct catalog *catalog)
{
  // Forgetting one releases its copy, which may be the last in another segment.
  while (catalog->moved_stale) {
    catalog->moved_stale = false;
    size_t kept = 0;
    for (size_t i = 0; i < catalog->moved_count; i++) {
      struct moved moved = catalog->moved[i];
      if (catalog_live(catalog, position_segment(moved.from)))
        catalog->moved[kept++] = moved;
      else
        catalog_live_release(catalog, position_segment(moved.to), 1, 0);
    }
    catalog->moved_count = kept;
  }
}
