// What `skerry passwd` does to the text of a password file. See passwd_edit.h.
#include "cli/passwd_edit.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

enum { COLUMN_GAP = 2 };

// One line of the file and the bytes it came from, with the line end.
struct piece {
  struct span raw;
  struct password_line line;
};

static bool next_piece(struct span *text, struct piece *out)
{
  struct span before = *text, line;
  if (!password_next_line(text, &line)) return false;
  out->raw = span_of(before.at, before.size - text->size);
  // The text was parsed as a whole before.
  enum status status = password_line_parse(line, &out->line, NULL);
  assert(status == OK);
  (void)status;
  return true;
}

static bool next_line_of(struct span *text, struct span user, struct piece *out)
{
  while (next_piece(text, out))
    if (out->line.user.size > 0 && span_equal(out->line.user, user)) return true;
  return false;
}

struct passwd_lines passwd_look(struct span text, struct span user, int64_t now_ms)
{
  struct passwd_lines lines = {0};
  struct piece piece;
  int64_t longest = now_ms;
  while (next_line_of(&text, user, &piece)) {
    lines.count++;
    bool scram = span_equal(password_hash_kind(piece.line.hash), span_text("scram-sha-256"));
    if (!scram || piece.line.until_ms < longest) continue;
    longest = piece.line.until_ms;
    lines.scram = piece.line.hash;
  }
  return lines;
}

// ---- Groups

static bool names_group(struct span groups, struct span name)
{
  struct span group;
  while (password_next_group(&groups, &group))
    if (span_equal(group, name)) return true;
  return false;
}

// Appends the groups to *out that are not in it yet.
static enum status add_groups(struct span groups, struct buffer *out)
{
  struct span group;
  enum status status = OK;
  while (status == OK && password_next_group(&groups, &group)) {
    if (names_group(buffer_peek(out), group)) continue;
    if (buffer_size(out) > 0) status = buffer_append(out, ",", 1);
    if (status == OK) status = buffer_append(out, group.at, group.size);
  }
  return status;
}

// Those that the user is to have afterwards.
static enum status choose_groups(struct span text, const struct passwd_change *change, struct buffer *out)
{
  if (change->has_groups) return add_groups(change->groups, out);
  struct piece piece;
  enum status status = OK;
  while (status == OK && next_line_of(&text, change->user, &piece)) status = add_groups(piece.line.groups, out);
  return status;
}

// ---- Editing

// Whether a line of the user stays.
static bool stays(const struct passwd_change *change, const struct password_line *line)
{
  switch (change->action) {
    case PASSWD_SET:
    case PASSWD_DELETE: return false;
    case PASSWD_ROTATE: return line->until_ms >= change->now_ms;
    case PASSWD_REGROUP: return true;
  }
  assert(false && "no such action");
  return true;
}

static enum status end_last_line(struct buffer *out)
{
  struct span text = buffer_peek(out);
  if (text.size == 0 || text.at[text.size - 1] == '\n') return OK;
  return buffer_append(out, "\n", 1);
}

static enum status append_new(const struct passwd_change *change, struct span groups, struct buffer *out)
{
  const struct password_line line = {
      .user = change->user, .hash = change->hash, .until_ms = change->until_ms, .groups = groups};
  enum status status = end_last_line(out);
  return status == OK ? password_line_append(&line, out) : status;
}

// A line of the user. Each has all groups, so that none is lost when one of them is taken out by hand.
static enum status edit_line(const struct passwd_change *change, const struct piece *piece, struct span groups,
                             struct buffer *out)
{
  struct password_line line = piece->line;
  if (!stays(change, &line)) return OK;
  if (change->action == PASSWD_ROTATE && line.until_ms > change->keep_until_ms) line.until_ms = change->keep_until_ms;
  line.groups = groups;
  return password_line_append(&line, out);
}

static enum status edit(struct span text, const struct passwd_change *change, struct span groups, struct buffer *out)
{
  size_t left = passwd_look(text, change->user, change->now_ms).count;
  bool adds = change->action == PASSWD_SET || change->action == PASSWD_ROTATE;
  struct piece piece;
  enum status status = OK;
  while (status == OK && next_piece(&text, &piece)) {
    if (piece.line.user.size == 0 || !span_equal(piece.line.user, change->user)) {
      status = buffer_append(out, piece.raw.at, piece.raw.size);
      continue;
    }
    status = edit_line(change, &piece, groups, out);
    left--;
    bool here = adds && (change->action == PASSWD_SET || left == 0);
    if (status != OK || !here) continue;
    status = append_new(change, groups, out);
    adds = false;
  }
  if (status == OK && adds) status = append_new(change, groups, out);
  return status;
}

enum status passwd_edit(struct span text, const struct passwd_change *change, struct buffer *out)
{
  assert(buffer_size(out) == 0);
  struct buffer groups = {0};
  enum status status = choose_groups(text, change, &groups);
  if (status == OK) status = edit(text, change, buffer_peek(&groups), out);
  buffer_deinit(&groups);
  return status;
}

// ---- Listing

static struct span kind_name(struct span hash)
{
  struct span kind = password_hash_kind(hash);
  if (span_equal(kind, span_text("7"))) return span_text("pbkdf2-sha512");
  if (span_equal(kind, span_text("6"))) return span_text("sha512");
  return kind;
}

// In characters.
static size_t width_of(struct span text)
{
  size_t width = 0;
  for (size_t i = 0; i < text.size; i++) width += (text.at[i] & 0xC0) != 0x80;
  return width;
}

enum { COLUMNS = 4 };

struct row {
  struct span cells[COLUMNS];
  char until[PASSWORD_UNTIL_TEXT + 8];
};

static void make_row(const struct password_line *line, int64_t now_ms, struct row *row)
{
  char text[PASSWORD_UNTIL_TEXT];
  password_until_format(line->until_ms, text);
  bool ends = line->until_ms != INT64_MAX;
  snprintf(row->until, sizeof row->until, "%s%s", ends ? text : "-", line->until_ms < now_ms ? " (over)" : "");
  row->cells[0] = line->user;
  row->cells[1] = kind_name(line->hash);
  row->cells[2] = span_text(row->until);
  row->cells[3] = line->groups.size > 0 ? line->groups : span_text("-");
}

static enum status print_row(const struct row *row, const size_t widths[COLUMNS], struct buffer *out)
{
  enum status status = OK;
  for (size_t i = 0; i < COLUMNS && status == OK; i++) {
    status = buffer_append(out, row->cells[i].at, row->cells[i].size);
    if (i + 1 == COLUMNS) break;
    for (size_t at = width_of(row->cells[i]); at < widths[i] + COLUMN_GAP && status == OK; at++)
      status = buffer_append(out, " ", 1);
  }
  if (status == OK) status = buffer_append(out, "\n", 1);
  return status;
}

enum status passwd_list(struct span text, int64_t now_ms, struct buffer *out)
{
  struct row row = {.cells = {span_text("USER"), span_text("KIND"), span_text("UNTIL"), span_text("GROUPS")}};
  size_t widths[COLUMNS];
  for (size_t i = 0; i < COLUMNS; i++) widths[i] = row.cells[i].size;
  struct row line;
  struct piece piece;
  for (struct span rest = text; next_piece(&rest, &piece);) {
    if (piece.line.user.size == 0) continue;
    make_row(&piece.line, now_ms, &line);
    for (size_t i = 0; i < COLUMNS; i++)
      if (width_of(line.cells[i]) > widths[i]) widths[i] = width_of(line.cells[i]);
  }
  enum status status = print_row(&row, widths, out);
  for (struct span rest = text; status == OK && next_piece(&rest, &piece);) {
    if (piece.line.user.size == 0) continue;
    make_row(&piece.line, now_ms, &line);
    status = print_row(&line, widths, out);
  }
  return status;
}
