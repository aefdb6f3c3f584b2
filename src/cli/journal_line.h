// One line of `skerry journal`: named fields, as text for people (name=value) or as a JSON object. Pure.
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/span.h"
#include "base/status.h"
#include "cli/json.h"

enum line_form { LINE_TEXT, LINE_JSON };

// How bytes that need not be text are shown.
enum line_bytes { LINE_BYTES_NONE, LINE_BYTES_TEXT, LINE_BYTES_BASE64 };

struct journal_line {
  struct buffer *out;  // the caller's
  enum line_form form;
  struct json json;  // LINE_JSON
  bool space;        // LINE_TEXT: something was written in front
  bool failed;
};

void line_begin(struct journal_line *line, struct buffer *out, enum line_form form);

// Ends the line with a newline. ERR_NO_MEMORY: some of it is missing.
CHECK_RESULT enum status line_end(struct journal_line *line);

// As text only the value, without its name: what each line begins with.
void line_word(struct journal_line *line, const char *name, const char *value);
void line_number(struct journal_line *line, const char *name, uint64_t value);

void line_uint(struct journal_line *line, const char *name, uint64_t value);
void line_int(struct journal_line *line, const char *name, int64_t value);
void line_flag(struct journal_line *line, const char *name, bool value);  // as text: the name, when it is true
void line_text(struct journal_line *line, const char *name, struct span value);
void line_time(struct journal_line *line, const char *name, int64_t unix_ms);  // "2026-01-31T12:00:00.123Z"

// LINE_BYTES_TEXT: as text when it is UTF-8, otherwise base64 under the name with "_base64".
void line_bytes(struct journal_line *line, const char *name, struct span value, enum line_bytes form);

// A list of objects, or of values; as text: name=[{…} {…}].
void line_open_list(struct journal_line *line, const char *name);
void line_close_list(struct journal_line *line);
void line_value(struct journal_line *line, uint64_t value);
void line_open_item(struct journal_line *line);
void line_close_item(struct journal_line *line);

// An object that is the value of a name; as text: name={…}.
void line_open_object(struct journal_line *line, const char *name);
void line_close_object(struct journal_line *line);

// ---- For tables

enum { JOURNAL_TEXT_SIZE = 32 };

// "512 B", "1.5 KiB", "16.0 MiB". Returns `out`.
const char *journal_size_text(uint64_t bytes, char out[static JOURNAL_TEXT_SIZE]);

// "1 record", "2 records".
enum { JOURNAL_COUNT_SIZE = 64 };
const char *journal_count_text(uint64_t count, const char *what, char out[static JOURNAL_COUNT_SIZE]);

// The two largest units: "45s", "3m 20s", "2h 5m", "6d 1h".
const char *journal_age_text(uint64_t seconds, char out[static JOURNAL_TEXT_SIZE]);

// ISO 8601 in UTC with milliseconds.
const char *journal_time_text(int64_t unix_ms, char out[static JOURNAL_TEXT_SIZE]);

// Appends text for a terminal: control characters and what is not UTF-8 are written as \n, \x1b or \u202e, `"` and `\` with
// a backslash.
CHECK_RESULT enum status journal_escape(struct buffer *out, struct span text);
