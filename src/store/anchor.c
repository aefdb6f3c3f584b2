#include "store/anchor.h"

#include <assert.h>
#include <string.h>

#include "base/crc32c.h"
#include "core/record.h"

enum { SLOTS = 2, CHECKSUM_AT = ANCHOR_SLOT_SIZE - 4, BROKER_ID_AT = 76 };

static_assert(BROKER_ID_AT + ANCHOR_BROKER_ID_MAX <= CHECKSUM_AT, "the identifier fits into its slot");

static const char magic[8] = {'S', 'K', 'R', 'Y', 'A', 'N', 'C', 'R'};

static enum anchor_state parse(const uint8_t *slot, struct anchor *out)
{
  struct record_reader reader = {.rest = span_of(slot, ANCHOR_SLOT_SIZE)};
  struct record_reader checksum = {.rest = span_of(slot + CHECKSUM_AT, 4)};
  if (memcmp(record_read_bytes(&reader, sizeof magic).at, magic, sizeof magic) != 0) return ANCHOR_DAMAGED;
  if (record_read_u32(&checksum) != crc32c(0, span_of(slot, CHECKSUM_AT))) return ANCHOR_DAMAGED;
  if (record_read_u32(&reader) > ANCHOR_VERSION) return ANCHOR_NEWER;

  struct anchor anchor = {0};
  (void)record_read_u32(&reader);
  memcpy(anchor.identity, record_read_bytes(&reader, sizeof anchor.identity).at, sizeof anchor.identity);
  anchor.generation = record_read_u64(&reader);
  anchor.last.position = record_read_u64(&reader);
  anchor.last.sequence = record_read_u64(&reader);
  anchor.previous.position = record_read_u64(&reader);
  anchor.previous.sequence = record_read_u64(&reader);
  uint32_t size = record_read_u32(&reader);
  if (size > ANCHOR_BROKER_ID_MAX) return ANCHOR_DAMAGED;
  struct span broker_id = record_read_bytes(&reader, size);
  if (size > 0) memcpy(anchor.broker_id, broker_id.at, size);
  *out = anchor;
  return ANCHOR_GOOD;
}

static enum status read_slots(struct disk *disk, struct disk_file *file, enum anchor_state *out_state, struct anchor *out)
{
  enum anchor_state state = ANCHOR_DAMAGED;
  for (unsigned i = 0; i < SLOTS; i++) {
    uint8_t slot[ANCHOR_SLOT_SIZE];
    size_t size = 0;
    enum status status = disk->operations->read(disk, file, (uint64_t)i * ANCHOR_SLOT_DISTANCE, slot, sizeof slot, &size);
    if (status == ERR_NO_MEMORY) return status;
    if (status || size < sizeof slot) continue;  // a sector that cannot be read is a slot that is not whole
    struct anchor anchor;
    switch (parse(slot, &anchor)) {
      case ANCHOR_NEWER: *out_state = ANCHOR_NEWER; return OK;
      case ANCHOR_GOOD:
        if (state != ANCHOR_GOOD || anchor.generation > out->generation) *out = anchor;
        state = ANCHOR_GOOD;
        break;
      case ANCHOR_MISSING:
      case ANCHOR_DAMAGED: break;
    }
  }
  *out_state = state;
  return OK;
}

enum status anchor_read(struct disk *disk, enum anchor_state *out_state, struct anchor *out)
{
  struct disk_file *file;
  enum status status = disk->operations->open(disk, ANCHOR_FILE, DISK_READ, &file);
  if (status == ERR_NOT_FOUND) {
    *out_state = ANCHOR_MISSING;
    return OK;
  }
  if (status) return status;
  status = read_slots(disk, file, out_state, out);
  disk->operations->close(disk, file);
  return status;
}

static void format(const struct anchor *anchor, uint8_t slot[ANCHOR_SLOT_SIZE])
{
  memset(slot, 0, ANCHOR_SLOT_SIZE);
  uint8_t *at = record_write_bytes(slot, span_of(magic, sizeof magic));
  at = record_write_u32(at, ANCHOR_VERSION);
  at = record_write_u32(at, 0);
  at = record_write_bytes(at, span_of(anchor->identity, sizeof anchor->identity));
  at = record_write_u64(at, anchor->generation);
  at = record_write_u64(at, anchor->last.position);
  at = record_write_u64(at, anchor->last.sequence);
  at = record_write_u64(at, anchor->previous.position);
  at = record_write_u64(at, anchor->previous.sequence);
  struct span broker_id = span_text(anchor->broker_id);
  at = record_write_u32(at, (uint32_t)broker_id.size);
  assert(at == slot + BROKER_ID_AT);
  record_write_bytes(at, broker_id);
  record_write_u32(slot + CHECKSUM_AT, crc32c(0, span_of(slot, CHECKSUM_AT)));
}

// A file of its full size, so that later writes take no space.
static enum status make_file(struct disk *disk, struct disk_file **out)
{
  struct disk_file *file;
  enum status status = disk->operations->open(disk, ANCHOR_FILE, DISK_CREATE, &file);
  if (status) return status;
  status = disk->operations->allocate(disk, file, ANCHOR_SLOT_DISTANCE + ANCHOR_SLOT_SIZE);
  if (status) {
    disk->operations->close(disk, file);
    return status;
  }
  *out = file;
  return OK;
}

enum status anchor_write(struct disk *disk, struct anchor *anchor)
{
  struct disk_file *file;
  enum status status = disk->operations->open(disk, ANCHOR_FILE, DISK_WRITE, &file);
  if (status == ERR_NOT_FOUND) status = make_file(disk, &file);
  if (status) return status;

  struct anchor next = *anchor;
  next.generation++;
  uint8_t slot[ANCHOR_SLOT_SIZE];
  format(&next, slot);
  uint64_t offset = next.generation % SLOTS * ANCHOR_SLOT_DISTANCE;
  status = disk->operations->write(disk, file, offset, span_of(slot, sizeof slot));
  if (!status) status = disk->operations->sync(disk, file);
  disk->operations->close(disk, file);
  if (!status && !next.directory_safe) status = disk->operations->sync_directory(disk);
  next.directory_safe = true;
  if (!status) *anchor = next;
  return status;
}
