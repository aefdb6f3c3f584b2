// Who comes in: the gates of the listeners and the list of rights, made of files at the start, again at each reload, and
// whenever a file changes. What is wrong in a file is refused, and what was before stays.
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "broker/config_schema.h"
#include "broker/running.h"
#include "core/roll.h"
#include "net/transport.h"
#include "security/security.h"

enum { AGAIN_MS = 1000, SOON_DAYS = 14, TELL_EVERY_MS = 24 * 3600 * 1000 };

static const int64_t day_ms = INT64_C(24) * 3600 * 1000;

// ---- The broker's own secret

// With a data directory it stays the same over restarts: what users that do not exist are asked must not tell that they do
// not.
static bool read_secret(const char *path, uint8_t out[ENTRANCE_SECRET_SIZE])
{
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
  if (fd < 0) return false;
  bool good = read(fd, out, ENTRANCE_SECRET_SIZE) == ENTRANCE_SECRET_SIZE;
  close(fd);
  return good;
}

static void write_secret(const char *path, const uint8_t secret[ENTRANCE_SECRET_SIZE])
{
  int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0) return;  // then it is another one after the next start, which is no harm but to what it hides
  bool written = write(fd, secret, ENTRANCE_SECRET_SIZE) == ENTRANCE_SECRET_SIZE && fsync(fd) == 0;
  close(fd);
  if (!written) unlink(path);
}

enum status broker_make_secret(struct broker *broker, const struct config *config, struct error *error)
{
  char path[4200];
  if (broker->doors.has_secret || !entrance_has_secrets(config)) return OK;
  broker->doors.has_secret = true;
  const char *data = config->broker.data;
  snprintf(path, sizeof path, "%s/secret", data ? data : "");
  if (data && read_secret(path, broker->doors.secret)) return OK;
  if (getrandom(broker->doors.secret, ENTRANCE_SECRET_SIZE, 0) != ENTRANCE_SECRET_SIZE)
    return error_set(error, ERR_IO, "no random numbers");
  return OK;
}

// Only now there is the directory for it.
static void keep_secret(const struct broker *broker)
{
  char path[4200];
  uint8_t kept[ENTRANCE_SECRET_SIZE];
  const char *data = broker->config.broker.data;
  if (!broker->doors.has_secret || !data) return;
  snprintf(path, sizeof path, "%s/secret", data);
  if (!read_secret(path, kept)) write_secret(path, broker->doors.secret);
  explicit_bzero(kept, sizeof kept);
}

// ---- What is told about certificates and CRLs

size_t broker_certificates(const struct broker *broker, struct certificate_view *out, size_t size)
{
  size_t count = 0;
  for (size_t i = 0; i < broker->doors.entrance.count && count < size; i++) {
    int64_t issued_ms;
    int64_t end_ms = entrance_end_ms(&broker->doors.entrance, i);
    int64_t crl_end_ms = entrance_crl_end_ms(&broker->doors.entrance, i, &issued_ms);
    if (end_ms || crl_end_ms)
      out[count++] = (struct certificate_view){.listener = config_listener_name(&broker->config.listeners[i]),
                                               .end_s = end_ms / 1000,
                                               .crl_end_s = crl_end_ms / 1000};
  }
  return count;
}

enum ending { ENDS_LATER, ENDS_SOON, HAS_ENDED };

// `soon_ms`: so long before its end something new should have come. end 0: it does not end.
static enum ending ending_of(int64_t end_ms, int64_t soon_ms, int64_t today_ms)
{
  int64_t left_ms = end_ms - today_ms;
  if (end_ms == 0 || left_ms >= soon_ms) return ENDS_LATER;
  return left_ms > 0 ? ENDS_SOON : HAS_ENDED;
}

// Lists are issued for a month as well as for an hour: a fifth of that, but not longer before than for certificates.
static int64_t crl_soon_ms(int64_t issued_ms, int64_t end_ms)
{
  int64_t fifth_ms = (end_ms - issued_ms) / 5;
  return fifth_ms < SOON_DAYS * day_ms ? fifth_ms : SOON_DAYS * day_ms;
}

static void tell_end(struct broker *broker, enum ending ending, const char *const events[3], const char *listener,
                     int64_t end_ms)
{
  if (ending == ENDS_LATER) return;
  char date[32] = "";
  time_t end = (time_t)(end_ms / 1000);
  struct tm parts;
  if (gmtime_r(&end, &parts)) strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%SZ", &parts);
  if (ending == ENDS_SOON)
    BROKER_LOG(broker, LOG_WARNING, events[ENDS_SOON], FIELD_TEXT("listener", listener), FIELD_TEXT("end", date),
               FIELD_INT("days", (end_ms - broker_wall().ms) / day_ms));
  else
    BROKER_LOG(broker, LOG_ERROR, events[HAS_ENDED], FIELD_TEXT("listener", listener), FIELD_TEXT("end", date));
}

struct endings {
  enum ending certificate, crl;
  int64_t end_ms, crl_end_ms;
};

static struct endings endings_of(const struct broker *broker, size_t listener, int64_t today_ms)
{
  const struct entrance *entrance = &broker->doors.entrance;
  int64_t issued_ms;
  struct endings endings = {.end_ms = entrance_end_ms(entrance, listener),
                            .crl_end_ms = entrance_crl_end_ms(entrance, listener, &issued_ms)};
  endings.certificate = ending_of(endings.end_ms, SOON_DAYS * day_ms, today_ms);
  endings.crl = ending_of(endings.crl_end_ms, crl_soon_ms(issued_ms, endings.crl_end_ms), today_ms);
  return endings;
}

// Once a day, and as soon as there is something new to tell.
static void tell_ends(struct broker *broker)
{
  static const char *const certificate_events[] = {NULL, "certificate_ends_soon", "certificate_has_ended"};
  static const char *const crl_events[] = {NULL, "crl_ends_soon", "crl_has_ended"};
  struct doors *doors = &broker->doors;
  uint64_t now_ms = broker_now().ms;
  int64_t today_ms = broker_wall().ms;
  unsigned count = 0;
  for (size_t i = 0; i < doors->entrance.count; i++) {
    struct endings endings = endings_of(broker, i, today_ms);
    count += (unsigned)endings.certificate + (unsigned)endings.crl;
  }
  if (doors->ends_told_ms && count <= doors->ends_told && now_ms - doors->ends_told_ms < TELL_EVERY_MS) return;
  doors->ends_told = count;
  doors->ends_told_ms = now_ms;
  for (size_t i = 0; i < doors->entrance.count; i++) {
    struct endings endings = endings_of(broker, i, today_ms);
    const char *listener = config_listener_name(&broker->config.listeners[i]);
    tell_end(broker, endings.certificate, certificate_events, listener, endings.end_ms);
    tell_end(broker, endings.crl, crl_events, listener, endings.crl_end_ms);
  }
}

// ---- Files that change

static void log_part(struct broker *broker, const char *listener, const char *what)
{
  BROKER_LOG(broker, LOG_INFO, "credentials_changed", FIELD_TEXT("listener", listener), FIELD_TEXT("what", what));
}

static void log_differences(struct broker *broker, const struct entrance *before, const struct entrance *after)
{
  for (size_t i = 0; i < after->count; i++) {
    const struct gate *old = before->gates[i], *new = after->gates[i];
    if (!old || !new) continue;
    const char *listener = config_listener_name(&broker->config.listeners[i]);
    if (old->credentials != new->credentials) log_part(broker, listener, "tls");
    if (old->passwords != new->passwords) log_part(broker, listener, "passwords");
    if (old->jwt != new->jwt) log_part(broker, listener, "jwt");
  }
}

// ---- Users who are gone

static bool same_passwords(const struct gate *before, const struct gate *after)
{
  if (!after || !after->passwords) return true;
  return before && before->passwords == after->passwords && strcmp(before->name, after->name) == 0;
}

// As far as one can tell by the places of the listeners: looking once too often is no harm.
static bool has_new_passwords(const struct entrance *before, const struct entrance *after)
{
  for (size_t i = 0; i < after->count; i++)
    if (!same_passwords(i < before->count ? before->gates[i] : NULL, after->gates[i])) return true;
  return false;
}

// Whoever has come by a password, and is in its listener's file no more, goes.
static bool is_still_known(void *context, const struct roll_entry *entry)
{
  const struct broker *broker = context;
  const struct transport *transport = entry->transport;
  for (size_t i = 0; i < broker->doors.entrance.count; i++) {
    const struct gate *gate = broker->doors.entrance.gates[i];
    if (gate && broker->listeners[i] == transport->listener) return gate_knows(gate, entry->method, entry->user);
  }
  return true;  // its listener is gone, or takes no passwords any more
}

// The control thread waits meanwhile, so that the shards may look at what is the broker's.
static void review(struct shard *shard, uint8_t number, void *broker)
{
  (void)number;
  (void)roll_review(shard, is_still_known, broker, MQTT_NOT_AUTHORIZED);
}

static void take_change(void *broker);

void broker_take_entrance(struct broker *broker, struct entrance *next, struct entrance *out_before)
{
  keep_secret(broker);
  struct doors *doors = &broker->doors;
  *out_before = doors->entrance;
  doors->entrance = *next;
  *next = (struct entrance){0};
  if (doors->entrance.acl != out_before->acl) net_set_acl(broker->net, doors->entrance.acl);
  // Twice: a client that was on its way from one shard to another the first time has arrived.
  if (has_new_passwords(out_before, &doors->entrance))
    for (unsigned i = 0; i < 2; i++) net_run_on_shards(broker->net, review, broker);
  doors->ends_told_ms = 0;
  doors->seen = doors->entrance.fingerprint;
  if (event_pending(doors->again, EV_TIMEOUT, NULL)) event_del(doors->again);
  struct error error = {0};
  enum status status = OK;
  if (!doors->watch && doors->entrance.files.count)
    status = watch_open(broker->base, take_change, broker, &doors->watch, &error);
  if (status == OK && doors->watch) status = watch_files(doors->watch, &doors->entrance.files, &error);
  if (status != OK) BROKER_LOG(broker, LOG_WARNING, "watch_failed", FIELD_TEXT("error", error.text));
  tell_ends(broker);
}

// What could not be made goes on as it was. Its files look unread, so that the next reload does not take them for good.
static void keep_what_failed(const struct entrance *before, struct entrance *next)
{
  bool failed = next->acl_failed;
  for (size_t i = 0; i < next->count; i++) {
    if (!next->failed[i]) continue;
    failed = true;
    next->gates[i] = gate_ref(before->gates[i]);
  }
  if (next->acl_failed) next->acl = before->acl ? acl_ref(before->acl) : NULL;
  for (size_t i = 0; i < next->files.count && failed; i++)
    if (!file_set_holds_still(&before->files, next->files.items[i].path) &&
        !file_set_is_refused(&before->files, next->files.items[i].path))
      file_set_distrust(&next->files, i);
}

static void log_refused(struct broker *broker, const struct diagnostics *diagnostics)
{
  for (size_t i = 0; i < diagnostics->count; i++)
    BROKER_LOG(broker, LOG_ERROR, "files_refused", FIELD_TEXT("error", diagnostics->texts[i]));
}

static void arm_again(struct broker *broker)
{
  const struct timeval in = {.tv_sec = AGAIN_MS / 1000, .tv_usec = AGAIN_MS % 1000 * 1000};
  event_add(broker->doors.again, &in);
}

// Reads what has changed. A mistake may be a file that is half written, or one of two that belong together: only when it is
// still there a moment later is it told and does the rest go on without it. Memory is waited for.
static void refresh(struct broker *broker, bool last_time)
{
  struct doors *doors = &broker->doors;
  const struct entrance_before before = {.config = &broker->config, .entrance = &doors->entrance, .unasked = true};
  struct entrance next;
  struct entrance old;
  struct diagnostics diagnostics = {0};
  enum status status = entrance_build(&broker->config, broker->options->source.file, doors->secret, broker_wall(), &before,
                                      &next, &diagnostics);
  doors->seen = next.fingerprint;
  if (status == OK || (last_time && status == ERR_INVALID)) {
    if (status != OK) log_refused(broker, &diagnostics);
    keep_what_failed(&doors->entrance, &next);
    log_differences(broker, &doors->entrance, &next);
    for (size_t i = 0; i < next.count; i++)
      if (next.gates[i] != doors->entrance.gates[i] && broker->listeners[i])
        net_set_gate(broker->net, broker->listeners[i], gate_ref(next.gates[i]));
    broker_take_entrance(broker, &next, &old);
    entrance_deinit(&old);
  } else {
    entrance_deinit(&next);
    arm_again(broker);
  }
  diagnostics_deinit(&diagnostics);
}

static void read_again(evutil_socket_t fd, short what, void *context)
{
  (void)fd;
  (void)what;
  refresh(context, true);
}

static void take_change(void *context)
{
  struct broker *broker = context;
  tell_ends(broker);
  if (file_set_fingerprint_now(&broker->doors.entrance.files) != broker->doors.seen) refresh(broker, false);
}

static bool has_failures(const struct entrance *entrance)
{
  for (size_t i = 0; i < entrance->count; i++)
    if (entrance->failed[i]) return true;
  return entrance->acl_failed;
}

bool broker_take_changes(struct broker *broker)
{
  struct doors *doors = &broker->doors;
  if (file_set_fingerprint_now(&doors->entrance.files) != doors->seen) refresh(broker, false);
  return !event_pending(doors->again, EV_TIMEOUT, NULL) && !has_failures(&doors->entrance);
}

// ---- Start and stop

enum status broker_open_doors(struct broker *broker, struct error *error)
{
  struct diagnostics diagnostics = {0};
  enum status status = broker_make_secret(broker, &broker->config, error);
  if (status != OK) return status;
  status = entrance_build(&broker->config, broker->options->source.file, broker->doors.secret, broker_wall(), NULL,
                          &broker->doors.entrance, &diagnostics);
  for (size_t i = 0; i < diagnostics.count; i++)
    BROKER_LOG(broker, LOG_ERROR, "configuration_error", FIELD_TEXT("error", diagnostics.texts[i]));
  if (status != OK) (void)error_set(error, status, "%s", diagnostics.count ? diagnostics.texts[0] : status_name(status));
  diagnostics_deinit(&diagnostics);
  return status;
}

enum status broker_man_doors(struct broker *broker, struct error *error)
{
  struct doors *doors = &broker->doors;
  keep_secret(broker);
  for (size_t i = 0; i < doors->entrance.count; i++) {
    enum status status = net_prepare(broker->net, broker->listeners[i], doors->entrance.gates[i], error);
    if (status != OK) return status;
  }
  for (size_t i = 0; i < doors->entrance.count; i++)
    if (doors->entrance.gates[i]) net_set_gate(broker->net, broker->listeners[i], gate_ref(doors->entrance.gates[i]));
  if (doors->entrance.acl) net_set_acl(broker->net, doors->entrance.acl);
  doors->again = event_new(broker->base, -1, 0, read_again, broker);
  if (!doors->again) return error_set(error, ERR_NO_MEMORY, "out of memory");
  tell_ends(broker);
  doors->seen = doors->entrance.fingerprint;
  if (doors->entrance.files.count == 0) return OK;
  enum status status = watch_open(broker->base, take_change, broker, &doors->watch, error);
  return status == OK ? watch_files(doors->watch, &doors->entrance.files, error) : status;
}

void broker_close_doors(struct broker *broker)
{
  struct doors *doors = &broker->doors;
  watch_close(doors->watch);
  if (doors->again) event_free(doors->again);
  entrance_deinit(&doors->entrance);
  explicit_bzero(doors->secret, sizeof doors->secret);
}
