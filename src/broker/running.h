// A running broker, and what its parts do with it, each above those that it calls: listeners.c, doors.c (who comes in),
// outlets.c (what it shows), reload.c, control_answers.c (what is asked of it), broker.c (start, signals, stop).
#pragma once

#include <event2/event.h>

#include "broker/admin_http.h"
#include "broker/broker.h"
#include "broker/control.h"
#include "broker/entrance.h"
#include "broker/hardening.h"
#include "broker/log_output.h"
#include "broker/now.h"
#include "broker/storage.h"
#include "broker/sys_topics.h"
#include "broker/watch.h"
#include "net/loop.h"

// Who comes in, and the files that say so.
struct doors {
  struct entrance entrance;  // of broker.config
  uint8_t secret[ENTRANCE_SECRET_SIZE];
  bool has_secret;        // made at the first configuration that needs it
  struct watch *watch;    // NULL: there are no files
  uint64_t seen;          // fingerprint of the files when they were last read, or tried
  struct event *again;    // files that were wrong are read once more when they have had time to become whole
  uint64_t ends_told_ms;  // when it was last told which certificates and CRLs end soon; 0: not yet
  unsigned ends_told;     // how much there was to tell
};

// What was before a reload that waits to be confirmed.
struct fallback {
  bool waits;
  struct config config;
  struct entrance entrance;
  struct file_set files;  // that the reload has read, as they looked then: if it is undone these are refused
  struct event *timer;
  uint64_t deadline_ms;
};

struct broker {
  const struct broker_options *options;
  struct config config;
  struct log_output output;
  struct log_origin origin;
  struct log_origin shard_origins[SHARDS_MAX];
  struct log_origin side_origin;
  struct log log;
  struct memory_budget budget;
  struct storage storage;
  struct net *net;
  struct listener **listeners;  // one per config.listeners, same order; NULL: lost, see reload.c
  struct event_base *base;
  struct event *signals;
  struct event *sys_timer;
  struct admin_http *http;
  control_answer *answer;           // on the control socket, given the broker
  struct control *control;          // NULL: none is configured
  struct control *retired_control;  // closed in a moment: whoever asked for the reload that ends it is to get his answer
  struct sys_topics *sys;
  struct hardening_user user;
  struct doors doors;
  struct fallback fallback;
  struct mono started, sys_published;
  uint64_t reloads, reloads_refused;
  int signal_fd;
  bool ready;
  char id[256];  // configured, or the host's name
};

#define BROKER_LOG(broker, level, event, ...) LOG(&(broker)->log, broker_now(), level, event, __VA_ARGS__)

// ---- listeners.c

// Opens one listener as configured; not yet accepting. What is on the file system is given to the broker's user.
CHECK_RESULT enum status broker_open_listener(const struct listener_config *config, const struct hardening_user *user,
                                              struct listener **out, struct error *error);

// What may change while it is open.
void broker_apply_listener(const struct listener_config *config, struct listener *listener);

// ---- doors.c

// Reads what the configuration's files say, for the first time. All mistakes are logged.
CHECK_RESULT enum status broker_open_doors(struct broker *broker, struct error *error);

// Starts the listeners' threads, gives all listeners their gates and the shards the list; then watches the files. Once,
// after net_start.
CHECK_RESULT enum status broker_man_doors(struct broker *broker, struct error *error);
CHECK_RESULT enum status broker_make_secret(struct broker *broker, const struct config *config, struct error *error);
void broker_close_doors(struct broker *broker);

// Takes the entrance's place in the broker's: whoever comes from now on is let in by it. The listeners have got their gates.
// What was before goes to *out_before, the caller's.
void broker_take_entrance(struct broker *broker, struct entrance *next, struct entrance *out_before);

// Reads at once what has changed in the files since they were last read. False: something in them is wrong, and what it said
// before holds.
bool broker_take_changes(struct broker *broker);

// For /metrics: fills at most `size` rows, returns how many.
size_t broker_certificates(const struct broker *broker, struct certificate_view *out, size_t size);

// ---- outlets.c

// Open what is configured; NULL when nothing is.
CHECK_RESULT enum status broker_open_metrics(struct broker *broker, const struct config *config, struct admin_http **out,
                                             struct error *error);
CHECK_RESULT enum status broker_open_control(struct broker *broker, const struct config *config, struct control **out,
                                             struct error *error);

// False: no memory.
CHECK_RESULT bool broker_make_sys(struct broker *broker);
// Publishes at once, and from then on in the interval that is configured now.
void broker_start_sys(struct broker *broker);
void broker_fill_view(void *broker, struct status_view *out);

// ---- reload.c

// What came of a reload. reload_report_deinit it.
struct reload_report {
  bool good;
  char why[512];                // not good: the first reason
  struct diagnostics mistakes;  // all of them, where there are several
  struct diagnostics warnings;  // good: of the configuration that holds now
  struct config_changes changes;
};

void reload_report_deinit(struct reload_report *report);

// Reads the configuration and its files again and makes it so, or says why not and leaves all as it is. With `confirm_ms` it
// is undone after that time, unless broker_confirm is called before.
void broker_reload(struct broker *broker, uint32_t confirm_ms, struct reload_report *out);

// Logs what is allowed and probably not meant in the configuration; into `out`, too.
void broker_log_warnings(struct broker *broker, struct diagnostics *out);

// The reload holds. False: none waits.
bool broker_confirm(struct broker *broker);

// Back to what was before the reload that waits. False when none does, or (logged) it cannot be done.
bool broker_roll_back(struct broker *broker, const char *why);
void broker_forget_fallback(struct broker *broker);

// ---- control_answers.c

// A control_answer of the broker.
void broker_answer(void *broker, const struct control_request *request, struct buffer *out);
