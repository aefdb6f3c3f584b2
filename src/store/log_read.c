// Reading: windows, which hold a piece of a segment, and single records through them.
#include "store/log_internal.h"

void log_window_free(struct log_window *window)
{
  free(window->data);
  *window = (struct log_window){0};
}

void log_forget_windows(struct journal_log *log, uint32_t segment)
{
  for (size_t i = 0; i < LOG_WINDOWS; i++)
    if (log->windows[i].segment == segment) log->windows[i].segment = 0;
}

// What the disk cannot read in one go, block by block: a bad spot must not take all around it with it.
static enum status read_blocks(struct journal_log *log, struct disk_file *file, uint64_t offset, size_t size,
                               struct log_window *window)
{
  size_t done = 0, blocks = 0, good = 0;
  while (done < size) {
    size_t piece = LOG_BLOCK - (size_t)((offset + done) % LOG_BLOCK);
    if (piece > size - done) piece = size - done;
    size_t got = 0;
    enum status status = ERR_IO;
    for (unsigned tries = log->started ? LOG_READ_TRIES : LOG_OPEN_TRIES; status == ERR_IO && tries > 0; tries--)
      status = log->disk->operations->read(log->disk, file, offset + done, window->data + done, piece, &got);
    if (status && status != ERR_IO) return status;
    if (status) {
      memset(window->data + done, 0, piece);
      window->faulty = true;
      got = piece;
    } else {
      good++;
    }
    blocks++;
    done += got;
    if (got < piece) break;
  }
  window->size = done;
  return blocks > 1 && good == 0 ? ERR_IO : OK;
}

// Where the segment ends for a reader: what is being written must not be kept before it is there.
static uint64_t readable_end(const struct journal_log *log, const struct segment *segment)
{
  return segment->number == log->current ? log->end : segment->size;
}

static enum status fill(struct journal_log *log, struct segment *segment, struct log_window *window, uint64_t offset,
                        size_t size)
{
  if (size > window->capacity) {
    free(window->data);
    window->capacity = 0;
    window->data = malloc(size);
    if (!window->data) return ERR_NO_MEMORY;
    window->capacity = size;
  }
  struct disk_file *file;
  enum status status = log_file(log, segment, &file);
  if (status) return status;
  window->faulty = false;
  status = log->disk->operations->read(log->disk, file, offset, window->data, size, &window->size);
  if (status == ERR_IO) status = read_blocks(log, file, offset, size, window);
  if (status) return status;
  window->segment = segment->number;
  window->offset = offset;
  return OK;
}

enum status log_view(struct journal_log *log, struct segment *segment, struct log_window *window, uint64_t offset,
                     size_t size, const uint8_t **out)
{
  uint64_t end = readable_end(log, segment);
  if (offset > end || size > end - offset) return ERR_INVALID;
  bool inside =
      window->segment == segment->number && offset >= window->offset && offset + size <= window->offset + window->size;
  if (!inside) {
    size_t wanted = size > window->ahead ? size : window->ahead;
    if (wanted > end - offset) wanted = (size_t)(end - offset);
    window->segment = 0;
    enum status status = fill(log, segment, window, offset, wanted);
    if (status) return status;
    if (window->size < size) return ERR_INVALID;  // the file is shorter than it was
  }
  *out = window->data + (offset - window->offset);
  return OK;
}

// ---- One record

static bool near(const struct log_window *window, const struct segment *segment, uint64_t offset)
{
  return window->segment == segment->number && offset >= window->offset && offset <= window->offset + window->size;
}

// The window that holds the place, or ended just there: reading goes forward, so more is read at once. Otherwise the one
// that was not used for the longest time, with little.
static struct log_window *choose_window(struct journal_log *log, const struct segment *segment, uint64_t offset)
{
  struct log_window *chosen = NULL;
  for (size_t i = 0; i < LOG_WINDOWS && !chosen; i++)
    if (near(&log->windows[i], segment, offset)) chosen = &log->windows[i];
  if (chosen) {
    bool inside = offset + sizeof(struct record_header) <= chosen->offset + chosen->size;
    if (!inside && chosen->ahead < LOG_WINDOW_BYTES) chosen->ahead *= 4;
  } else {
    chosen = &log->windows[0];
    for (size_t i = 1; i < LOG_WINDOWS; i++)
      if (log->windows[i].touched < chosen->touched) chosen = &log->windows[i];
    if (chosen->capacity > LOG_WINDOW_BYTES) log_window_free(chosen);  // a huge record was there
    chosen->segment = 0;
    chosen->ahead = LOG_WINDOW_LEAST;
  }
  if (chosen->ahead > LOG_WINDOW_BYTES) chosen->ahead = LOG_WINDOW_BYTES;
  chosen->touched = ++log->uses;
  return chosen;
}

static enum status read_record(struct journal_log *log, struct segment *segment, struct log_window *window, uint64_t offset,
                               struct record_header *out_header, struct span *out_body)
{
  const uint8_t *at;
  enum status status = log_view(log, segment, window, offset, sizeof *out_header, &at);
  if (status) return status;
  struct record_header header;
  log_decode_header(at, &header);
  if (record_type(&header) == RECORD_NONE) return window->faulty ? ERR_IO : ERR_INVALID;
  status = log_view(log, segment, window, offset, sizeof header + header.size, &at);
  if (status == ERR_INVALID && window->faulty) status = ERR_IO;
  if (status) return status;
  if (log_record_checksum(log_seed(log->identity, segment->number), at, header.size) != header.checksum)
    return window->faulty ? ERR_IO : ERR_INVALID;
  *out_header = header;
  *out_body = span_of(at + sizeof header, header.size);
  return OK;
}

enum status journal_log_read(struct journal_log *log, uint64_t position, struct record_header *out_header,
                             struct span *out_body)
{
  struct segment *segment = log_find(log, position_segment(position));
  uint32_t offset = position_offset(position);
  if (!segment) return ERR_NOT_FOUND;
  if (offset < LOG_SEGMENT_HEADER || offset % RECORD_ALIGN != 0) return ERR_INVALID;
  struct log_window *window = choose_window(log, segment, offset);
  enum status status = read_record(log, segment, window, offset, out_header, out_body);
  if (status == ERR_INVALID || status == ERR_IO) {
    // Once more from the disk: what is in the window may be from before somebody else wrote it, or the disk may have
    // recovered.
    window->segment = 0;
    status = read_record(log, segment, window, offset, out_header, out_body);
  }
  if (status) window->segment = 0;
  return status;
}
