// An answer under way, for control_answers.c and control_clients.c.
#pragma once

#include "broker/control_json.h"
#include "broker/running.h"

struct answer {
  struct broker *broker;
  struct control_json json;  // its object
  struct buffer text;        // for people
  bool failed;               // out of memory
};

// Adds to the text for people.
void answer_say(struct answer *answer, const char *format, ...) __attribute__((format(printf, 2, 3)));

// control_clients.c
void answer_clients(struct answer *answer, const struct control_request *request);
void answer_disconnect(struct answer *answer, const struct control_request *request);
