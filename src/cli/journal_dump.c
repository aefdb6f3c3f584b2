// skerry journal dump: records as lines.
#include <stdio.h>

#include "cli/commands.h"
#include "cli/journal.h"
#include "cli/journal_print.h"
#include "cli/journal_reading.h"

enum { FLUSH_BYTES = 64 << 10 };

struct dump {
  const struct journal_options *options;
  struct journal_reading *reading;
  struct buffer out;
  enum status failure;
};

static void flush(struct dump *dump)
{
  struct span bytes = buffer_peek(&dump->out);
  if (bytes.size > 0 && fwrite(bytes.at, 1, bytes.size, stdout) != bytes.size && dump->failure == OK) dump->failure = ERR_IO;
  buffer_consume(&dump->out, bytes.size);
}

static bool dump_record(void *context, const struct record_header *header, struct span body, uint64_t position)
{
  struct dump *dump = context;
  const struct journal_options *options = dump->options;
  const struct journal_filter *filter = &options->filter;
  const struct journal_names *names = &dump->reading->names;
  if (filter->to > 0 && record_sequence(header) > filter->to) return false;
  if (filter->segment > 0 && position_segment(position) > filter->segment) return false;
  if (!journal_filter_passes(filter, names, header, body, position)) return true;
  const struct journal_print print = {
      .out = &dump->out, .form = options->json ? LINE_JSON : LINE_TEXT, .payloads = options->payloads, .names = names};
  dump->failure = journal_print_record(&print, header, body, position);
  if (buffer_size(&dump->out) >= FLUSH_BYTES) flush(dump);
  return dump->failure == OK;
}

// The replay tells whose the sessions are; what it makes of them is not needed.
static enum status run(struct dump *dump, struct error *error)
{
  struct journal_reading *reading = dump->reading;
  enum status status = journal_reading_replay(reading, NULL, NULL, error);
  if (status == OK) status = journal_reading_scan(reading, 0, dump_record, dump, error);
  flush(dump);
  if (status == OK && dump->failure == OK && fflush(stdout) != 0) dump->failure = ERR_IO;
  if (status == OK && dump->failure == ERR_IO) return error_set(error, ERR_IO, "the output cannot be written");
  if (status == OK && dump->failure != OK) return error_set(error, dump->failure, "%s", status_name(dump->failure));
  return status;
}

int journal_dump(const struct journal_options *options)
{
  struct journal_reading reading = {0};
  struct dump dump = {.options = options, .reading = &reading};
  struct error error = {0};
  enum status status = journal_reading_open(&reading, options->path, &error);
  if (status != OK) {
    journal_complain("%s", error.text);
    return COMMAND_USAGE;
  }
  int exit_code = JOURNAL_WHOLE;
  status = run(&dump, &error);
  if (status != OK) {
    journal_complain("%s", error.text);
    exit_code = COMMAND_FAILED;
  }
  bool moved_on = journal_reading_damages(&reading) > 0 && journal_reading_moved_on(&reading);
  if (moved_on)
    journal_complain("the broker wrote while this was read: some of the newest, or of the oldest, may be missing");
  for (size_t i = 0; i < reading.damage_count && !moved_on; i++) {
    char text[JOURNAL_DAMAGE_SIZE];
    journal_complain("%s", journal_damage_text(&reading.damages[i], text));
    if (!reading.damages[i].torn) exit_code = JOURNAL_DAMAGED;
  }
  buffer_deinit(&dump.out);
  journal_reading_close(&reading);
  return exit_code;
}
