// From what a mosquitto.conf says to what Skerry is to be configured as: decides what every listener becomes, and refuses
// what cannot be said without leaving the broker less safe. Pure: what it has to know of the machine comes in.
#pragma once

#include "base/buffer.h"
#include "cli/mosquitto_settings.h"

enum mosquitto_file_kind { MOSQUITTO_PASSWORDS, MOSQUITTO_ACL, MOSQUITTO_PSK };

// A file that the configuration names and that may be copied.
struct mosquitto_file {
  enum mosquitto_file_kind kind;
  const struct mosquitto_line *line;  // that names it first
  char *path;                         // absolute
  char *written;                      // how the configuration names it
};

enum mosquitto_auth { MOSQUITTO_AUTH_NONE, MOSQUITTO_AUTH_PASSWORD, MOSQUITTO_AUTH_CERT, MOSQUITTO_AUTH_PSK };

// What becomes of one listener.
struct mosquitto_door {
  const struct mosquitto_listener *listener;
  const struct mosquitto_security *security;
  bool tls;
  enum mosquitto_auth auth;
  bool anonymous;
};

// What of the machine and the command line counts. Borrowed.
struct mosquitto_place {
  const char *base;          // absolute: what relative paths are relative to
  const char *default_user;  // whom Mosquitto becomes when root starts it and no user is given; NULL: do not say
  bool copies;               // the files are copied beside the configuration
  bool ipv6;                 // there is an IPv6 loopback address
};

struct mosquitto_plan {
  const struct mosquitto_settings *settings;
  const struct mosquitto_place *place;
  struct mosquitto_door doors[MOSQUITTO_MAX_LISTENERS + 1];
  size_t door_count;
  struct mosquitto_file *files;
  size_t file_count;
  const struct mosquitto_line *acl;  // the line that names the list; NULL: there is none
};

// Fills the plan, and adds findings to `conf`. The plan is of use only when none of them is an error.
void mosquitto_plan_make(struct mosquitto_conf *conf, const struct mosquitto_settings *settings,
                         const struct mosquitto_place *place, struct mosquitto_plan *out);
void mosquitto_plan_deinit(struct mosquitto_plan *plan);

// How the configuration names the file of this line; the line is one whose file is in the plan.
const char *mosquitto_plan_file(const struct mosquitto_plan *plan, const struct mosquitto_line *line);

// The path of a directive, absolute. Heap; NULL when memory is short.
char *mosquitto_path(const struct mosquitto_place *place, const char *path);

// The configuration, YAML, with what was found as comments. ERR_NO_MEMORY.
CHECK_RESULT enum status mosquitto_write(const struct mosquitto_plan *plan, struct mosquitto_conf *conf, struct buffer *out);
