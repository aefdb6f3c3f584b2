// A password from whoever sits there. See passwd_prompt.h.
#include "cli/passwd_prompt.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

void passwd_entry_wipe(struct passwd_entry *entry)
{
  explicit_bzero(entry, sizeof *entry);
}

// False when a signal came first.
static bool wait_for_input(int signals)
{
  struct pollfd ready[] = {{.fd = STDIN_FILENO, .events = POLLIN}, {.fd = signals, .events = POLLIN}};
  while (poll(ready, 2, -1) < 0)
    if (errno != EINTR) return true;  // reading will say what is wrong
  return ready[1].revents == 0;
}

// Up to a line end or the end of the input. Byte by byte: what follows the line is not ours.
static enum status read_line(int signals, struct passwd_entry *out, struct error *error)
{
  out->size = 0;
  for (;;) {
    char byte;
    if (!wait_for_input(signals)) return error_set(error, ERR_CLOSED, "interrupted");
    ssize_t got = read(STDIN_FILENO, &byte, 1);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return error_set(error, status_from_errno(errno), "standard input cannot be read: %s", strerror(errno));
    if (got == 0 && out->size == 0) return error_set(error, ERR_CLOSED, "there is no password on standard input");
    if (got == 0 || byte == '\n') break;
    if (byte == '\0') return error_set(error, ERR_INVALID, "the password has a NUL in it");
    if (out->size == PASSWD_MAX) return error_set(error, ERR_INVALID, "the password has more than %d bytes", PASSWD_MAX);
    out->text[out->size++] = byte;
  }
  if (out->size > 0 && out->text[out->size - 1] == '\r') out->size--;
  return out->size > 0 ? OK : error_set(error, ERR_INVALID, "the password is empty");
}

static enum status ask(const char *prompt, int signals, struct passwd_entry *out, struct error *error)
{
  fputs(prompt, stderr);
  fflush(stderr);
  enum status status = read_line(signals, out, error);
  fputc('\n', stderr);
  return status;
}

static enum status ask_twice(const char *prompt, const char *again, int signals, struct passwd_entry *out,
                             struct error *error)
{
  struct passwd_entry second;
  enum status status = ask(prompt, signals, out, error);
  if (status != OK || !again) return status;
  status = ask(again, signals, &second, error);
  if (status == OK && !span_equal(passwd_entry_span(out), passwd_entry_span(&second)))
    status = error_set(error, ERR_INVALID, "the two passwords differ");
  passwd_entry_wipe(&second);
  return status;
}

enum status passwd_prompt(const char *prompt, const char *again, int signals, struct passwd_entry *out, struct error *error)
{
  struct termios before;
  if (tcgetattr(STDIN_FILENO, &before) < 0) return read_line(signals, out, error);
  struct termios silent = before;
  silent.c_lflag &= ~(tcflag_t)ECHO;
  if (tcsetattr(STDIN_FILENO, TCSAFLUSH, &silent) < 0)
    return error_set(error, status_from_errno(errno), "the terminal shows what is typed, and cannot be told not to: %s",
                     strerror(errno));
  enum status status = ask_twice(prompt, again, signals, out, error);
  tcsetattr(STDIN_FILENO, TCSAFLUSH, &before);
  return status;
}
