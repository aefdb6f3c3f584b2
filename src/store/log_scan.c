// Reading the log from a place to its end: what is a record, what is damage, and what is only the torn end of the last
// write.
#include "store/log_internal.h"
#include "store/store_batch.h"

struct scan {
  struct journal_log *log;
  const struct log_reader *reader;
  struct log_window window;
  struct segment *segment;
  uint32_t seed;
  uint64_t offset;
  uint64_t expected;  // sequence of the next record; 0: not known
  uint64_t limit;     // first sequence of what comes after the segment
  bool last, stopped;
  bool unread;  // what was taken for bad last lies in what the disk did not read
  bool evidence_known;
  uint64_t evidence;  // all below this sequence was safe, says a record of this segment; 0: nothing says anything
};

static enum status peek(struct scan *scan, uint64_t offset, struct record_header *out)
{
  const uint8_t *at;
  enum status status = log_view(scan->log, scan->segment, &scan->window, offset, sizeof *out, &at);
  if (status == OK) log_decode_header(at, out);
  return status;
}

// ERR_INVALID: the bytes at `offset` are not a record. `floor`: the lowest sequence that it may have, `ceiling`: one above
// the highest.
static enum status check(struct scan *scan, uint64_t offset, uint64_t floor, uint64_t ceiling,
                         struct record_header *out_header, struct span *out_body)
{
  struct record_header header;
  enum status status = peek(scan, offset, &header);
  if (status) return status;
  uint64_t sequence = record_sequence(&header);
  if (record_type(&header) == RECORD_NONE || sequence < floor || sequence >= ceiling) return ERR_INVALID;
  uint64_t length = record_length(header.size);
  if (length > scan->segment->size - offset) return ERR_INVALID;
  const uint8_t *at;
  status = log_view(scan->log, scan->segment, &scan->window, offset, sizeof header + header.size, &at);
  if (status) return status;
  if (log_record_checksum(scan->seed, at, header.size) != header.checksum) return ERR_INVALID;
  *out_header = header;
  *out_body = span_of(at + sizeof header, header.size);
  return OK;
}

static uint64_t align_up(uint64_t offset)
{
  return (offset + RECORD_ALIGN - 1) & ~(uint64_t)(RECORD_ALIGN - 1);
}

// The next good record behind `bad`, where one was expected with the sequence `expected`. There cannot have been more
// records in between than fit, so that hardly any place but the right one is looked at closely. ERR_NOT_FOUND: there is
// none.
static enum status find_good(struct scan *scan, uint64_t bad, uint64_t expected, uint64_t *out_offset,
                             struct record_header *out)
{
  uint64_t first = scan->segment->first_sequence;
  for (uint64_t offset = align_up(bad + 1); offset + sizeof *out <= scan->segment->size; offset += RECORD_ALIGN) {
    uint64_t floor = expected ? expected : first;
    uint64_t most = expected ? expected + (offset - bad) / sizeof *out : first + (offset - LOG_SEGMENT_HEADER) / sizeof *out;
    if (most >= scan->limit) most = scan->limit - 1;
    struct span body;
    enum status status = check(scan, offset, floor, most + 1, out, &body);
    if (status == OK) {
      *out_offset = offset;
      return OK;
    }
    if (status != ERR_INVALID) return status;
    scan->unread |= scan->window.faulty;
  }
  return ERR_NOT_FOUND;
}

// One past the last byte from `from` on that is not zero; `from` when there is none. What cannot be read counts as not zero.
static enum status end_of_bytes(struct scan *scan, uint64_t from, uint64_t *out)
{
  *out = from;
  for (uint64_t offset = from; offset < scan->segment->size;) {
    uint64_t left = scan->segment->size - offset;
    size_t piece = left < LOG_WINDOW_BYTES ? (size_t)left : LOG_WINDOW_BYTES;
    const uint8_t *at;
    enum status status = log_view(scan->log, scan->segment, &scan->window, offset, piece, &at);
    if (status) return status == ERR_INVALID ? OK : status;
    size_t end = piece;
    while (end > 0 && at[end - 1] == 0 && !scan->window.faulty) end--;
    scan->unread |= scan->window.faulty;
    if (end > 0) *out = offset + end;
    offset += piece;
  }
  return OK;
}

// What the records behind `bad` say was safe when they were written.
static enum status find_evidence(struct scan *scan, uint64_t bad, uint64_t expected)
{
  scan->evidence_known = true;
  uint64_t offset;
  struct record_header header;
  enum status status = find_good(scan, bad, expected, &offset, &header);
  while (status == OK) {
    struct span body;
    uint64_t sequence = record_sequence(&header);
    status = check(scan, offset, sequence, sequence + 1, &header, &body);
    struct store_batch batch;
    if (status == OK && record_type(&header) == RECORD_BATCH && store_batch_get(body, &batch) && batch.safe > scan->evidence)
      scan->evidence = batch.safe;
    if (status) break;
    uint64_t next = offset + record_length(header.size);
    if (check(scan, next, sequence + 1, sequence + 2, &header, &body) == OK) {
      offset = next;
    } else {
      status = find_good(scan, next - RECORD_ALIGN, sequence + 1, &offset, &header);
    }
  }
  return status == ERR_NOT_FOUND || status == ERR_INVALID ? OK : status;
}

static void report(const struct scan *scan, const struct log_damage *damage)
{
  if (scan->reader->damage) scan->reader->damage(scan->reader->context, damage);
}

static void deliver(struct scan *scan, const struct record_header *header, struct span body)
{
  uint64_t offset = scan->offset;
  uint64_t sequence = record_sequence(header);
  scan->offset += record_length(header->size);
  scan->expected = sequence + 1;
  struct store_batch batch;
  if (record_type(header) == RECORD_BATCH && store_batch_get(body, &batch)) {
    if (scan->last && batch.safe == sequence) scan->log->found_unsynced = offset;
    if (batch.safe <= sequence && batch.safe > scan->evidence) scan->evidence = batch.safe;
  }
  if (!scan->reader->record) return;
  uint64_t position = position_of(scan->segment->number, (uint32_t)offset);
  if (!scan->reader->record(scan->reader->context, header, body, position)) scan->stopped = true;
}

// No good record follows the bad one, or none that counts. `adjacent`: no segment is missing behind this one.
static enum status finish_segment(struct scan *scan, bool adjacent)
{
  struct segment *segment = scan->segment;
  segment->used = scan->offset;
  uint64_t end;
  enum status status = end_of_bytes(scan, scan->offset, &end);
  if (status) return status;
  struct log_damage damage = {
      .segment = segment->number, .offset = scan->offset, .bytes = end - scan->offset, .unread = scan->unread};
  if (scan->last) {
    scan->log->found_dirty = end > scan->offset ? end : 0;
    damage.torn = true;
    if (damage.bytes > 0) report(scan, &damage);
    return OK;
  }
  if (adjacent && scan->expected) damage.sequences_lost = scan->limit - scan->expected;
  if (damage.bytes == 0 && damage.sequences_lost == 0) return OK;
  segment->damaged = true;
  segment->used = end;
  report(scan, &damage);
  if (adjacent) scan->expected = scan->limit;
  return OK;
}

// At something that is not the next record. Goes on behind it when what follows counts, otherwise ends the segment.
static enum status pass_bad(struct scan *scan, bool adjacent, bool *out_end)
{
  uint64_t offset;
  struct record_header header;
  scan->unread = scan->window.faulty;
  enum status status = find_good(scan, scan->offset, scan->expected, &offset, &header);
  bool found = status == OK;
  if (status && status != ERR_NOT_FOUND) return status;
  if (found && scan->last) {
    // Written at once with what is missing, it may be there although that never was; only what was safe before can have been
    // damaged.
    if (!scan->evidence_known) {
      status = find_evidence(scan, scan->offset, scan->expected);
      if (status) return status;
    }
    uint64_t missing = scan->expected ? scan->expected : record_sequence(&header) - 1;
    found = scan->evidence > missing;
  }
  if (!found) {
    *out_end = true;
    return finish_segment(scan, adjacent);
  }
  struct log_damage damage = {
      .segment = scan->segment->number, .offset = scan->offset, .bytes = offset - scan->offset, .unread = scan->unread};
  if (scan->expected) damage.sequences_lost = record_sequence(&header) - scan->expected;
  scan->segment->damaged = true;
  report(scan, &damage);
  scan->offset = offset;
  scan->expected = record_sequence(&header);
  return OK;
}

static enum status scan_segment(struct scan *scan, bool adjacent)
{
  bool end = false;
  while (!end && !scan->stopped) {
    if (scan->expected == scan->limit) {  // the rest was given up, and written again in a later segment
      scan->segment->used = scan->offset;
      return OK;
    }
    struct record_header header;
    struct span body;
    uint64_t floor = scan->expected ? scan->expected : scan->segment->first_sequence;
    uint64_t ceiling = scan->expected ? scan->expected + 1 : scan->limit;
    enum status status = check(scan, scan->offset, floor, ceiling, &header, &body);
    if (status == OK)
      deliver(scan, &header, body);
    else if (status == ERR_INVALID)
      status = pass_bad(scan, adjacent, &end);
    if (status) return status;
  }
  return OK;
}

// ---- All segments

// Damage that is a whole file: set aside at this opening, or missing between two others although it must be there.
static void report_missing(struct scan *scan, uint32_t from, uint32_t to, uint64_t lost, bool wanted)
{
  const struct journal_log *log = scan->log;
  bool told = false;
  for (size_t i = 0; i < log->lost_count; i++) {
    const struct lost_segment *segment = &log->lost[i];
    if (segment->number < from || segment->number >= to) continue;
    report(scan,
           &(struct log_damage){.segment = segment->number, .bytes = segment->size, .sequences_lost = told ? 0 : lost});
    told = true;
  }
  if (!told && lost > 0 && wanted) report(scan, &(struct log_damage){.segment = from, .sequences_lost = lost});
}

// The first sequence of all that comes after a segment: after a failure a later one begins below the one before it.
static uint64_t limit_behind(const struct journal_log *log, size_t index)
{
  uint64_t limit = UINT64_C(1) << RECORD_SEQUENCE_BITS;
  for (size_t i = index + 1; i < log->count; i++)
    if (log->segments[i].first_sequence < limit) limit = log->segments[i].first_sequence;
  return limit;
}

static enum status scan_all(struct scan *scan, uint64_t from)
{
  struct journal_log *log = scan->log;
  uint32_t next_number = from ? position_segment(from) : 0;  // the number that should come next
  for (size_t i = log_index(log, next_number); i < log->count && !scan->stopped; i++) {
    struct segment *segment = &log->segments[i];
    uint64_t gap = scan->expected && segment->first_sequence > scan->expected ? segment->first_sequence - scan->expected : 0;
    report_missing(scan, next_number, segment->number, gap, from != 0);
    bool middle = from && i == log_index(log, position_segment(from)) && segment->number == position_segment(from) &&
                  position_offset(from) > LOG_SEGMENT_HEADER;
    scan->segment = segment;
    scan->seed = log_seed(log->identity, segment->number);
    scan->offset = middle ? align_up(position_offset(from)) : LOG_SEGMENT_HEADER;
    scan->limit = limit_behind(log, i);
    scan->last = i + 1 == log->count;
    next_number = segment->number + 1;
    if (segment->first_sequence >= scan->limit) {  // all of it was given up
      segment->used = LOG_SEGMENT_HEADER;
      continue;
    }
    scan->expected = middle ? 0 : segment->first_sequence;
    enum status status = scan_segment(scan, !scan->last && log->segments[i + 1].number == next_number);
    if (status) return status;
  }
  if (!scan->stopped) report_missing(scan, next_number, UINT32_MAX, 0, false);
  return OK;
}

enum status journal_log_scan(struct journal_log *log, uint64_t from, const struct log_reader *reader)
{
  struct scan scan = {.log = log, .reader = reader, .window = {.ahead = LOG_SCAN_BYTES}};
  if (!log->started) log->found_unsynced = LOG_SEGMENT_HEADER;
  enum status status = scan_all(&scan, from);
  if (status == OK && !scan.stopped && !log->started) {
    // Without a good record since `from` the next sequence is not known; journal_log_start looks for itself then.
    log->end_known = log->count == 0 || scan.expected != 0;
    log->found = (struct log_place){.sequence = scan.expected ? scan.expected : 1};
    if (scan.segment) {
      log->found.segment = scan.segment->number;
      log->found.offset = scan.offset;
    }
  }
  log_window_free(&scan.window);
  return status;
}
