// The control socket: a unix socket on which lines of JSON are asked and answered, by `skerry ctl` and whoever may open it.
// What a request does is the broker's (control_answers.c); here are the socket, its clients and their limits. Runs on the
// control thread.
//
//   {"command":"reload","confirm_ms":60000}   →   {"ok":true,"text":"...","changes":[...]}
//
// Every answer has "ok", and "text" for people. Lines are at most CONTROL_LINE_MAX long.
#pragma once

#include <event2/event.h>

#include "base/buffer.h"
#include "base/error.h"

enum {
  CONTROL_LINE_MAX = 4096,
  CONTROL_CLIENTS_MAX = 16,  // more are closed at once
  CONTROL_IDLE_S = 60,       // a client that neither asks nor reads is closed
  CONTROL_ANSWER_MAX = 1 << 20,
  CONTROL_CONFIRM_MAX_MS = 24 * 3600 * 1000,
  CONTROL_NAME_SIZE = 1024,  // of a client or user that is named, with its NUL
};

enum control_command {
  CONTROL_RELOAD,
  CONTROL_CONFIRM,
  CONTROL_ROLLBACK,
  CONTROL_STATUS,
  CONTROL_CLIENTS,
  CONTROL_DISCONNECT
};

struct control_request {
  enum control_command command;
  uint32_t confirm_ms;  // CONTROL_RELOAD: rolled back unless it is confirmed within this time; 0: it holds
  int64_t uid, pid;     // of who asks; -1: unknown
  // CONTROL_CLIENTS, CONTROL_DISCONNECT: who is meant; "": any. CONTROL_DISCONNECT has one of them at least.
  char client[CONTROL_NAME_SIZE], user[CONTROL_NAME_SIZE];
};

// Writes the answer, one object, without the end of the line.
typedef void control_answer(void *context, const struct control_request *request, struct buffer *out);

// A request as it came. ERR_INVALID: the error says what is wrong. Pure.
CHECK_RESULT enum status control_parse(struct span line, struct control_request *out, struct error *error);

struct control;

// Listens on the path with these permissions. A socket that nobody listens on any more is replaced when it is ours.
CHECK_RESULT enum status control_open(struct event_base *base, const char *path, uint32_t mode, control_answer *answer,
                                      void *context, struct control **out, struct error *error);
void control_set_mode(struct control *control, uint32_t mode);

// Takes no more clients, and removes the socket; those that are there get the answers that they wait for. One that has been
// retired before stays as long as this one: it may be one of its clients that has asked for this. NULL: there is none.
void control_retire(struct control *control, struct control *older);
void control_close(struct control *control);  // and removes the socket; not while it answers. NULL is harmless
