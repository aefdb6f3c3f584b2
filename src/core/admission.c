// What is kept of connections whose clients have shown who they are, or are about to; the questions and
// answers are core/authentication.c.

#include "core/admission.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "base/wipe.h"
#include "core/shard_internal.h"

// Beside the connection and not in it: most have none, and connections are many.
static uint64_t connection_hash(const struct connection *connection)
{
  return hash_bytes(connection->shard->settings.seed, &connection, sizeof connection);
}

static bool is_of(const void *item, const void *key)
{
  return ((const struct admission *)item)->connection == key;
}

struct admission *admission_of(const struct connection *connection)
{
  if (!connection->admitting) return NULL;
  return map_find(&connection->shard->admissions, connection_hash(connection), is_of, connection);
}

static bool enter(struct connection *connection, struct admission *admission)
{
  assert(!connection->admitting);
  if (map_insert(&connection->shard->admissions, connection_hash(connection), admission) != OK) return false;
  admission->connection = connection;
  connection->admitting = true;
  return true;
}

static void leave(struct connection *connection, struct admission *admission)
{
  bool was_there = map_remove(&connection->shard->admissions, connection_hash(connection), admission);
  assert(was_there);
  admission->connection = NULL;
  connection->admitting = false;
}

void admission_charge(struct shard *shard, struct admission *admission, size_t bytes)
{
  pool_charge(&shard->pool, (int64_t)bytes);
  admission->charged += bytes;
}

void admission_discharge(struct shard *shard, struct admission *admission, size_t bytes)
{
  assert(bytes <= admission->charged);
  pool_charge(&shard->pool, -(int64_t)bytes);
  admission->charged -= bytes;
}

void admission_end_exchange(struct shard *shard, struct enhanced **exchange)
{
  if (!*exchange) return;
  assert(shard->settings.free_enhanced);
  shard->settings.free_enhanced(*exchange);
  *exchange = NULL;
}

void admission_free(struct admission *admission)
{
  if (!admission) return;
  assert(!admission->enhanced);
  assert(admission->ticket == 0);
  wheel_cancel(&admission->expiry);
  identity_unref(admission->identity);
  wipe_and_free(admission->connect, admission->connect_size);
  wipe_and_free(admission->answer, admission->answer_size);
  free(admission);
}

void admission_drop(struct connection *connection)
{
  struct admission *admission = admission_of(connection);
  if (!admission) return;
  leave(connection, admission);
  admission_end_question(connection->shard, admission);
  admission_end_exchange(connection->shard, &admission->enhanced);
  pool_charge(&connection->shard->pool, -(int64_t)admission->charged);
  admission_free(admission);
}

static void expired(struct timer *timer, struct mono now)
{
  struct connection *connection = CONTAINER_OF(timer, struct admission, expiry)->connection;
  struct shard *shard = connection->shard;
  assert(connection->state == CONNECTED);
  count_fault(shard, MQTT_MAXIMUM_CONNECT_TIME);
  LOG(shard->settings.log, now, LOG_INFO, "authentication_expired", FIELD_SPAN("client", session_id(connection->session)),
      FIELD_SPAN("user", admission_of(connection)->identity->user), FIELD_TEXT("address", connection->address));
  // Not 0x87: nothing that it asked for was refused, its time is over.
  connection_end(connection, MQTT_MAXIMUM_CONNECT_TIME, true);
}

struct admission *admission_create(struct connection *connection, struct span method)
{
  struct admission *admission = calloc(1, sizeof *admission + method.size);
  if (!admission) return NULL;
  admission->method_size = (uint16_t)method.size;
  if (method.size > 0) memcpy(admission->method, method.at, method.size);
  timer_init(&admission->expiry, expired);
  if (!enter(connection, admission)) {
    free(admission);
    return NULL;
  }
  admission_charge(connection->shard, admission, sizeof *admission + method.size);
  return admission;
}

struct admission *connection_take_admission(struct connection *connection)
{
  assert(connection->state == MIGRATING);
  struct admission *admission = admission_of(connection);
  if (!admission) return NULL;
  leave(connection, admission);
  pool_charge(&connection->shard->pool, -(int64_t)admission->charged);
  return admission;
}

bool admission_take_over(struct connection *connection, struct admission *admission)
{
  if (!admission) return true;
  if (!enter(connection, admission)) {
    admission_free(admission);
    return false;
  }
  pool_charge(&connection->shard->pool, (int64_t)admission->charged);
  return true;
}

bool admission_granted(const struct connection *connection)
{
  const struct admission *admission = admission_of(connection);
  return admission && admission->identity;
}

void admission_settle(struct connection *connection)
{
  struct admission *admission = admission_of(connection);
  if (!admission) return;
  admission_discharge(connection->shard, admission, admission->answer_size);
  wipe_and_free(admission->answer, admission->answer_size);
  admission->answer = NULL;
  admission->answer_size = 0;
  if (admission->expires.ms == 0 && admission->method_size == 0) {
    admission_drop(connection);
    return;
  }
  if (admission->expires.ms != 0)
    wheel_arm(&connection->shard->wheel, &admission->expiry, admission->expires);
  else
    wheel_cancel(&admission->expiry);
}

void admission_input_kept(struct connection *connection)
{
  struct admission *admission = admission_of(connection);
  if (!admission || admission->password_size == 0) return;
  struct span kept = buffer_peek(connection->input);
  struct mqtt_fixed_header header;
  enum mqtt_header_result result = mqtt_fixed_header(kept, &header);
  assert(result == MQTT_HEADER_OK);
  assert(header.size + admission->password_at + admission->password_size <= kept.size);
  wipe(connection->input->data + connection->input->start + header.size + admission->password_at, admission->password_size);
  admission->password_size = 0;
}
